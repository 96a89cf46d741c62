//! `slash32-agent doctor`: quiet on a node that is well, and for each check one node that is not.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use slash32_tests::lab::Lab;
use slash32_tests::machine::{Outcome, PATIENCE, Running, finish};
use slash32_tests::node::Node;
use slash32_tests::{nodes_file, suite};
use std::process::ExitCode;

/// Where runtimes look for plugins; an overlay of the lab's own.
const CNI_BIN_DIR: &str = "/opt/cni/bin";

fn main() -> ExitCode {
    suite::main(&[
        (
            "doctor_is_quiet_on_a_healthy_node",
            doctor_is_quiet_on_a_healthy_node,
        ),
        ("doctor_tells_an_agent_that_is_gone", agent_gone),
        ("doctor_tells_a_file_that_cannot_be_read", torn_record),
        ("doctor_tells_forwarding_that_is_off", forwarding_off),
        ("doctor_tells_strict_reverse_path_filters", strict_filters),
        ("doctor_tells_a_source_that_is_filtered", filtered_source),
        (
            "doctor_tells_router_advertisements_that_are_ignored",
            advertisements_ignored,
        ),
        ("doctor_tells_a_missing_table", missing_table),
        ("doctor_tells_what_the_kernel_lacks", kernel_lacks),
        (
            "doctor_tells_dockers_forward_drop_and_its_cure_cures",
            docker_drops,
        ),
        ("doctor_tells_a_drop_in_nftables", nftables_drop),
        ("doctor_tells_a_drop_of_iptables_legacy", legacy_drop),
        ("doctor_tells_legacy_and_nft_rules_mixed", mixed),
        ("doctor_tells_firewalld", firewalld),
        ("doctor_tells_a_node_out_of_reach", off_link),
        ("doctor_tells_pod_cidrs_that_collide", colliding_cidrs),
        ("doctor_tells_a_wrong_node_address", wrong_address),
        (
            "doctor_tells_missing_and_stale_routes",
            missing_and_stale_routes,
        ),
        ("doctor_tells_routes_and_rules_that_shadow_ours", shadows),
        ("doctor_tells_pods_larger_than_the_link", large_pods),
        ("doctor_tells_a_black_hole", black_hole),
        (
            "doctor_tells_a_way_that_is_smaller_and_says_so",
            smaller_way,
        ),
        ("doctor_tells_a_pods_broken_link_and_route", broken_pod),
        ("doctor_tells_a_full_range", full_range),
        ("doctor_tells_leaks", leaks),
        ("doctor_tells_a_full_conntrack_table", full_conntrack),
        (
            "doctor_tells_used_up_inotify_and_descriptors",
            used_up_limits,
        ),
        ("doctor_tells_a_clock_that_went_back", clock_back),
        ("doctor_tells_managers_of_our_links", managers),
        ("doctor_tells_what_an_old_plugin_left", old_plugin),
        (
            "doctor_tells_a_conflist_in_front_of_ours",
            shadowed_conflist,
        ),
        (
            "doctor_tells_a_runtime_without_its_plugins",
            runtime_plugins,
        ),
    ])
}

// ===== asking =====

struct Told(Value, Outcome);

/// doctor on this node, through `sh` so that a test can spoil what only this process sees.
fn doctor_after(node: &Node, spoil: &str, arguments: &[&str]) -> Result<Told> {
    let program = slash32_tests::programs::binaries()?.join("slash32-agent");
    let mut command = node.machine.command("sh");
    command
        .args(["-c", &format!("{spoil}\nexec \"$0\" \"$@\"")])
        .arg(program)
        .args(["doctor", "-o", "json", "--node-name", &node.name])
        .args(["--nodes-file", "/etc/slash32/nodes.yaml"])
        .args(arguments);
    let outcome = finish(command, b"", PATIENCE)?;
    let value = serde_json::from_str(&outcome.stdout)
        .with_context(|| format!("{}{}", outcome.stdout, outcome.stderr))?;
    Ok(Told(value, outcome))
}

fn doctor(node: &Node) -> Result<Told> {
    doctor_after(node, "", &[])
}

impl Told {
    /// The findings of one check.
    fn of(&self, check: &str) -> Result<Vec<Value>> {
        let checks = self.0["checks"].as_array().context("no checks")?;
        let found = checks.iter().find(|entry| entry["check"] == check);
        let found = found.with_context(|| format!("no check {check}"))?;
        if let Some(reason) = found["notChecked"].as_str() {
            bail!("{check} was not made: {reason}");
        }
        Ok(found["findings"].as_array().cloned().unwrap_or_default())
    }

    /// That this check says so, with a cure; the exit code fits.
    fn says(&self, check: &str, severity: &str, words: &[&str]) -> Result<()> {
        let findings = self.of(check)?;
        let fits = |finding: &&Value| {
            let text = finding["text"].as_str().unwrap_or_default();
            finding["severity"] == severity && words.iter().all(|word| text.contains(word))
        };
        let finding = findings.iter().find(fits);
        let finding = finding
            .with_context(|| format!("{check} does not say {severity} {words:?}: {findings:?}"))?;
        let cure = finding["cure"].as_str().unwrap_or_default();
        ensure!(cure.len() > 10, "no cure: {finding}");
        let least = match severity {
            "error" => 2,
            "warning" => 1,
            _ => 0,
        };
        let code = self.1.status.code().unwrap_or(-1);
        ensure!(code >= least, "exit code {code} with {finding}");
        Ok(())
    }

    fn is_quiet(&self, check: &str) -> Result<()> {
        let findings = self.of(check)?;
        ensure!(findings.is_empty(), "{check}: {findings:?}");
        Ok(())
    }
}

/// Two nodes that converged; the first one's agent is ended, so that nothing is repaired.
fn sick(name: &str) -> Result<(Lab, Vec<Running>)> {
    let (lab, mut agents) = Lab::with_agents(name, 2)?;
    agents.remove(0).kill()?;
    Ok((lab, agents))
}

fn sh(node: &Node, script: &str) -> Result<()> {
    node.machine.run(&["sh", "-ec", script]).map(drop)
}

// ===== tests =====

fn doctor_is_quiet_on_a_healthy_node() -> Result<()> {
    let (lab, _agents) = Lab::with_agents("d0", 3)?;
    let node = &lab.nodes[0];
    std::fs::create_dir_all(CNI_BIN_DIR)?;
    for plugin in ["slash32", "loopback"] {
        std::fs::write(format!("{CNI_BIN_DIR}/{plugin}"), "")?;
    }
    let _pods = [
        node.add_pod("plain")?,
        node.add_pod_with_ports("web", &[(8080, 80, "tcp")])?,
    ];
    let told = doctor(node)?;
    let checks = told.0["checks"].as_array().context("no checks")?;
    ensure!(checks.len() == 27, "{}", checks.len());
    for check in checks {
        ensure!(check["notChecked"].is_null(), "{check}");
        for finding in check["findings"].as_array().context("no findings")? {
            // The machine under the lab may have no time daemon.
            ensure!(
                finding["severity"] == "note" && check["check"] == "clock",
                "{check}"
            );
        }
    }
    ensure!(told.1.status.code() == Some(0), "{}", told.1.status);
    let text = node.run_agent(&["doctor", "--node-name", "node1"])?.stdout;
    ensure!(text.contains("no trouble found"), "{text}");
    Ok(())
}

fn agent_gone() -> Result<()> {
    let (lab, _agents) = sick("d1")?;
    doctor(&lab.nodes[0])?.says("agent", "warning", &["does not answer"])
}

fn torn_record() -> Result<()> {
    let (lab, _agents) = Lab::with_agents("d2", 1)?;
    let node = &lab.nodes[0];
    let pod = node.add_pod("web")?;
    let file = node
        .machine
        .folder("/run/slash32")
        .join(format!("attachments/{}.json", pod.host_link()));
    std::fs::write(file, "")?;
    doctor(node)?.says("readable", "warning", &["attachments", "empty"])
}

fn forwarding_off() -> Result<()> {
    let (lab, _agents) = sick("d3")?;
    let node = &lab.nodes[0];
    sh(
        node,
        "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0",
    )?;
    let told = doctor(node)?;
    told.says("forwarding", "error", &["ip_forward"])?;
    told.says("forwarding", "error", &["ipv6", "forwarding"])
}

fn strict_filters() -> Result<()> {
    let (lab, _agents) = sick("d4")?;
    let node = &lab.nodes[0];
    sh(
        node,
        "ip link add eth9 type veth peer name eth10; ip addr add 203.0.113.1/24 dev eth9; ip link set eth9 up",
    )?;
    doctor(node)?.is_quiet("rp-filter")?;
    sh(node, "sysctl -qw net.ipv4.conf.eth9.rp_filter=1")?;
    doctor(node)?.says("rp-filter", "warning", &["eth9", "strict"])
}

fn filtered_source() -> Result<()> {
    let (lab, _agents) = sick("d5")?;
    let node = &lab.nodes[0];
    sh(
        node,
        "ip link add eth9 type veth peer name eth10; ip link set eth9 up; ip link set eth10 up
        sysctl -qw net.ipv4.conf.eth0.rp_filter=1
        ip route add 10.244.2.0/25 dev eth9",
    )?;
    doctor(node)?.says("rp-filter", "error", &["10.244.2.0/24", "eth0"])
}

fn advertisements_ignored() -> Result<()> {
    let (lab, _agents) = sick("d6")?;
    let node = &lab.nodes[0];
    sh(
        node,
        "sysctl -qw net.ipv6.conf.eth0.accept_ra=1; ip -6 route add 2001:db8:aaaa::/64 via 2001:db8:2::fe proto ra",
    )?;
    doctor(node)?.says("router-advertisements", "error", &["eth0"])
}

fn missing_table() -> Result<()> {
    let (lab, _agents) = sick("d7")?;
    let node = &lab.nodes[0];
    sh(node, "nft delete table inet slash32")?;
    doctor(node)?.says("table", "error", &["slash32"])
}

/// This kernel lacks nothing that our table needs, so the refusal is put into nft's mouth: the words are the kernel's.
fn kernel_lacks() -> Result<()> {
    let (lab, _agents) = sick("d8")?;
    let node = &lab.nodes[0];
    let wrapper = node.machine.folder("/etc/slash32").join("nft");
    std::fs::write(
        &wrapper,
        "#!/bin/sh\nif [ \"$1\" = --check ]; then echo 'Error: Could not process rule: Operation not supported' >&2; exit 1; fi\nexec nft \"$@\"\n",
    )?;
    sh(node, "chmod +x /etc/slash32/nft")?;
    doctor_after(node, "", &["--nft-program", "/etc/slash32/nft"])?.says(
        "modules",
        "error",
        &["Operation not supported"],
    )
}

fn docker_drops() -> Result<()> {
    let (lab, _agents) = sick("d9")?;
    let node = &lab.nodes[0];
    sh(
        node,
        "iptables-nft -N DOCKER-USER; iptables-nft -A FORWARD -j DOCKER-USER
        iptables-nft -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        iptables-nft -A DOCKER-USER -j RETURN; iptables-nft -P FORWARD DROP",
    )?;
    let told = doctor(node)?;
    told.says(
        "forward-drop",
        "error",
        &["to the world", "FORWARD (policy drop)"],
    )?;
    let finding = &told.of("forward-drop")?[0];
    let cure = finding["cure"].as_str().unwrap_or_default();
    ensure!(cure.contains("DOCKER-USER -i s32+"), "{cure}");
    sh(
        node,
        "iptables-nft -I DOCKER-USER -i s32+ -j ACCEPT; iptables-nft -I DOCKER-USER -o s32+ -j ACCEPT",
    )?;
    doctor(node)?.is_quiet("forward-drop")
}

fn nftables_drop() -> Result<()> {
    let (lab, _agents) = sick("d10")?;
    let node = &lab.nodes[0];
    node.machine.nft("table inet site { chain f { type filter hook forward priority 0; ct state established,related accept; ip saddr 192.0.2.0/24 accept; reject; }; }")?;
    doctor(node)?.says(
        "forward-drop",
        "error",
        &["pods of 10.244.1.0/24", "table inet site, chain f"],
    )?;
    node.machine.nft("insert rule inet site f iifname \"s32*\" accept\ninsert rule inet site f oifname \"s32*\" accept\n")?;
    doctor(node)?.is_quiet("forward-drop")
}

fn legacy_drop() -> Result<()> {
    let (lab, _agents) = sick("d11")?;
    let node = &lab.nodes[0];
    sh(node, "iptables-legacy -P FORWARD DROP")?;
    doctor(node)?.says("forward-drop", "error", &["filter (legacy)"])
}

fn mixed() -> Result<()> {
    let (lab, _agents) = sick("d12")?;
    let node = &lab.nodes[0];
    sh(node, "iptables-nft -A INPUT -p tcp --dport 1 -j ACCEPT")?;
    doctor(node)?.is_quiet("mixed-iptables")?;
    sh(node, "iptables-legacy -A INPUT -p tcp --dport 2 -j ACCEPT")?;
    doctor(node)?.says("mixed-iptables", "warning", &["iptables-legacy"])
}

fn firewalld() -> Result<()> {
    let (lab, _agents) = sick("d13")?;
    let node = &lab.nodes[0];
    node.machine.nft("table inet firewalld { chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept; ct state { established, related } accept; reject with icmpx admin-prohibited; }; }")?;
    let told = doctor(node)?;
    told.says("firewalld", "warning", &["firewalld is active"])?;
    told.says("forward-drop", "error", &["firewalld"])
}

fn off_link() -> Result<()> {
    let lab = Lab::split("d14", 1, 1)?;
    doctor(&lab.nodes[0])?.says("nodes", "error", &["node2", "203.0.113.2"])
}

fn colliding_cidrs() -> Result<()> {
    let (lab, _agents) = sick("d15")?;
    let node = &lab.nodes[0];
    let mut entries = lab.entries();
    entries[1].pod_cidrs = vec!["10.244.1.0/24".into()];
    nodes_file::write(&node.nodes_file(), &entries)?;
    doctor(node)?.says("pod-cidr", "error", &["10.244.1.0/24", "node2"])?;
    let mut entries = lab.entries();
    entries[0].pod_cidrs = vec!["192.0.2.0/25".into()];
    entries[0].addresses = vec!["192.0.2.1".into()];
    nodes_file::write(&node.nodes_file(), &entries)?;
    doctor(node)?.says("pod-cidr", "error", &["192.0.2.0/25"])?;
    // A pod network that covers a link of this node.
    nodes_file::write(&node.nodes_file(), &lab.entries())?;
    sh(
        node,
        "ip link add eth9 type veth peer name eth10; ip addr add 10.244.1.200/28 dev eth9; ip link set eth9 up",
    )?;
    doctor(node)?.says("pod-cidr", "error", &["10.244.1.0/24", "eth9"])
}

fn wrong_address() -> Result<()> {
    let (lab, _agents) = sick("d16")?;
    let node = &lab.nodes[0];
    let mut entries = lab.entries();
    entries[0].addresses[0] = "192.0.2.77".into();
    nodes_file::write(&node.nodes_file(), &entries)?;
    doctor(node)?.says("node-address", "error", &["192.0.2.77"])
}

fn missing_and_stale_routes() -> Result<()> {
    let (lab, _agents) = sick("d17")?;
    let node = &lab.nodes[0];
    sh(
        node,
        "ip route del 10.244.2.0/24 proto 32; ip route add 10.99.0.0/24 via 192.0.2.2 proto 32",
    )?;
    let told = doctor(node)?;
    told.says("routes", "error", &["10.244.2.0/24", "missing", "dev eth0"])?;
    told.says("routes", "warning", &["10.99.0.0/24", "no more"])
}

fn shadows() -> Result<()> {
    let (lab, _agents) = sick("d18")?;
    let node = &lab.nodes[0];
    sh(node, "ip route add 10.244.2.0/25 via 192.0.2.254 proto 80")?;
    doctor(node)?.says(
        "shadowed-routes",
        "error",
        &[
            "10.244.2.0/24",
            "192.0.2.254",
            "10.244.2.0/25",
            "protocol 80",
        ],
    )?;
    sh(
        node,
        "ip route del 10.244.2.0/25; ip rule add to 10.244.2.0/24 lookup 77 priority 100; ip route add default via 192.0.2.254 table 77",
    )?;
    doctor(node)?.says("shadowed-routes", "error", &["10.244.2.0/24", "table 77"])?;
    sh(
        node,
        "ip rule del priority 100; ip route add blackhole 10.244.1.64/26 proto 80",
    )?;
    doctor(node)?.says("shadowed-routes", "error", &["10.244.1.64/26", "forbids"])
}

fn large_pods() -> Result<()> {
    let (lab, _agents) = sick("d19")?;
    let node = &lab.nodes[0];
    let _pod = node.add_pod("web")?;
    doctor(node)?.is_quiet("mtu")?;
    sh(node, "ip link set eth0 mtu 1400")?;
    let told = doctor(node)?;
    told.says("mtu", "warning", &["new pods", "1500", "1400"])?;
    told.says("mtu", "warning", &["lab/web", "1500"])
}

fn black_hole() -> Result<()> {
    let (lab, _agents) = sick("d20")?;
    let node = &lab.nodes[0];
    // The other node's link takes less, and nobody says so: what a switch does.
    lab.nodes[1].machine.nft("table inet hole { chain i { type filter hook prerouting priority -500; meta length > 1400 drop; }; }")?;
    let told = doctor(node)?;
    told.says("mtu-path", "error", &["192.0.2.2", "1500", "black hole"])?;
    told.says("mtu-path", "error", &["2001:db8:2::2", "black hole"])
}

fn smaller_way() -> Result<()> {
    let (lab, _agents) = sick("d21")?;
    let node = &lab.nodes[0];
    // Through the router, whose way on takes less; it says so.
    lab.router.run(&[
        "sysctl",
        "-qw",
        "net.ipv4.conf.all.send_redirects=0",
        "net.ipv4.conf.eth0.send_redirects=0",
    ])?;
    lab.router.run(&[
        "ip",
        "route",
        "add",
        "192.0.2.2/32",
        "dev",
        "eth0",
        "mtu",
        "1300",
    ])?;
    sh(node, "ip route add 192.0.2.2/32 via 192.0.2.254 dev eth0")?;
    let told = doctor(node)?;
    told.says("nodes", "error", &["node2", "192.0.2.2"])?;
    told.says("mtu-path", "warning", &["192.0.2.2", "too big"])
}

fn broken_pod() -> Result<()> {
    let (lab, _agents) = sick("d22")?;
    let node = &lab.nodes[0];
    let pod = node.add_pod("web")?;
    age_record(node, &pod.host_link())?;
    doctor(node)?.is_quiet("pods")?;
    sh(node, &format!("ip route del {}/32 proto 32", pod.v4()))?;
    doctor(node)?.says("pods", "error", &["lab/web", &pod.v4(), "missing"])?;
    sh(node, &format!("ip link set {} down", pod.host_link()))?;
    doctor(node)?.says("pods", "error", &["lab/web", "down"])
}

/// Makes a record an hour old: what is new may be under way.
fn age_record(node: &Node, link: &str) -> Result<()> {
    let file = node
        .machine
        .folder("/run/slash32")
        .join(format!("attachments/{link}.json"));
    let mut record: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let created = record["createdMs"].as_u64().context("no createdMs")?;
    record["createdMs"] = (created - 3_600_000).into();
    Ok(std::fs::write(file, record.to_string())?)
}

fn full_range() -> Result<()> {
    let lab = Lab::flat("d23", 1)?;
    let node = &lab.nodes[0];
    let mut entries = lab.entries();
    entries[0].pod_cidrs = vec!["10.244.1.0/30".into()];
    nodes_file::write(&node.nodes_file(), &entries)?;
    let _agent = node.spawn_agent()?;
    node.wait_ready()?;
    doctor(node)?.is_quiet("addresses")?;
    let _pods = [node.add_pod("a")?, node.add_pod("b")?];
    doctor(node)?.says("addresses", "error", &["10.244.1.0/30", "no address"])
}

fn leaks() -> Result<()> {
    let (lab, _agents) = sick("d24")?;
    let node = &lab.nodes[0];
    let pod = node.add_pod("gone")?;
    age_record(node, &pod.host_link())?;
    sh(node, &format!("ip link del {}", pod.host_link()))?;
    sh(
        node,
        "ip link add s32zzzzzzzzzzzz type veth peer name stray",
    )?;
    let told = doctor(node)?;
    told.says("leaks", "warning", &["lab/gone", "no link"])?;
    told.says("leaks", "warning", &["s32zzzzzzzzzzzz", "no record"])
}

/// The limit is the machine's and cannot be set in here: a file in its place says 10.
fn full_conntrack() -> Result<()> {
    let (lab, _agents) = sick("d25")?;
    let node = &lab.nodes[0];
    doctor(node)?.is_quiet("conntrack")?;
    let fake = |count: &str| {
        format!(
            "echo 1000 > /etc/slash32/max; echo {count} > /etc/slash32/count
             mount --bind /etc/slash32/max /proc/sys/net/netfilter/nf_conntrack_max
             mount --bind /etc/slash32/count /proc/sys/net/netfilter/nf_conntrack_count"
        )
    };
    doctor_after(node, &fake("850"), &[])?.says("conntrack", "warning", &["850 of 1000"])?;
    doctor_after(node, &fake("960"), &[])?.says("conntrack", "error", &["960 of 1000"])
}

/// In a user namespace of its own, whose limit is nobody else's.
fn used_up_limits() -> Result<()> {
    let (lab, _agents) = sick("d26")?;
    let node = &lab.nodes[0];
    let program = slash32_tests::programs::binaries()?.join("slash32-agent");
    let mut command = node.machine.command("unshare");
    command
        .args(["--user", "--map-root-user", "sh", "-ec"])
        .arg("echo 0 > /proc/sys/user/max_inotify_instances; exec \"$0\" doctor -o json --no-probes --node-name node1")
        .arg(program);
    let outcome = finish(command, b"", PATIENCE)?;
    let value = serde_json::from_str(&outcome.stdout)
        .with_context(|| format!("{}{}", outcome.stdout, outcome.stderr))?;
    Told(value, outcome).says("limits", "warning", &["inotify"])?;
    let fake = "echo '950 0 1000' > /etc/slash32/files; mount --bind /etc/slash32/files /proc/sys/fs/file-nr";
    doctor_after(node, fake, &[])?.says("limits", "warning", &["950 of 1000"])
}

fn clock_back() -> Result<()> {
    let (lab, _agents) = sick("d27")?;
    let node = &lab.nodes[0];
    let pod = node.add_pod("web")?;
    let file = node
        .machine
        .folder("/run/slash32")
        .join(format!("attachments/{}.json", pod.host_link()));
    let mut record: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let created = record["createdMs"].as_u64().context("no createdMs")?;
    record["createdMs"] = (created + 3_600_000).into();
    std::fs::write(file, record.to_string())?;
    doctor(node)?.says("clock", "warning", &["went back"])
}

/// networkd and NetworkManager themselves are not here; what they write about each link is.
fn managers() -> Result<()> {
    let (lab, _agents) = sick("d28")?;
    let node = &lab.nodes[0];
    let pod = node.add_pod("web")?;
    let index = node.machine.read(&[
        "cat",
        &format!("/sys/class/net/{}/ifindex", pod.host_link()),
    ])?;
    let networkd = format!(
        "mkdir -p /run/systemd/netif/links; printf 'ADMIN_STATE=configured\\nOPER_STATE=routable\\n' > /run/systemd/netif/links/{index}"
    );
    doctor_after(
        node,
        &format!(
            "mount -t tmpfs tmpfs /run/systemd 2>/dev/null || mkdir -p /run/systemd; {networkd}"
        ),
        &[],
    )?
    .says(
        "link-managers",
        "warning",
        &["systemd-networkd", &pod.host_link()],
    )?;
    let unmanaged = format!("printf 'ADMIN_STATE=unmanaged\\n' > /run/systemd/netif/links/{index}");
    doctor_after(node, &unmanaged, &[])?.is_quiet("link-managers")?;
    let manager = format!(
        "mkdir -p /run/NetworkManager/devices; printf '[device]\\nmanaged=true\\n' > /run/NetworkManager/devices/{index}"
    );
    let told = doctor_after(node, &manager, &[])?;
    std::fs::remove_dir_all("/run/NetworkManager")?;
    std::fs::remove_dir_all("/run/systemd")?;
    told.says(
        "link-managers",
        "warning",
        &["NetworkManager", &pod.host_link()],
    )
}

fn old_plugin() -> Result<()> {
    let (lab, _agents) = sick("d29")?;
    let node = &lab.nodes[0];
    sh(node, "ip link add cni0 type bridge; ip link add cali123 type veth peer name c; ip route add blackhole 10.250.0.0/26 proto 80
        iptables-nft -N cali-FORWARD")?;
    let told = doctor(node)?;
    told.says("old-cni", "warning", &["flannel", "cni0"])?;
    told.says(
        "old-cni",
        "warning",
        &["Calico", "cali123", "10.250.0.0/26", "cali-"],
    )
}

fn shadowed_conflist() -> Result<()> {
    let (lab, _agents) = sick("d30")?;
    let node = &lab.nodes[0];
    sh(node, "echo '{\"name\": \"x\", \"plugins\": [{\"type\": \"bridge\"}]}' > /etc/cni/net.d/05-bridge.conflist
        echo '{\"name\": \"y\", \"plugins\": [{\"type\": \"calico\"}]}' > /etc/cni/net.d/20-calico.conflist")?;
    let told = doctor(node)?;
    told.says("conflist", "error", &["05-bridge.conflist", "bridge"])?;
    told.says("conflist", "note", &["20-calico.conflist"])?;
    sh(node, "echo '{' > /etc/cni/net.d/05-bridge.conflist")?;
    doctor(node)?.says(
        "conflist",
        "error",
        &["05-bridge.conflist", "cannot be read"],
    )?;
    sh(node, "rm /etc/cni/net.d/*")?;
    doctor(node)?.says("conflist", "error", &["10-slash32.conflist", "not there"])
}

fn runtime_plugins() -> Result<()> {
    let (lab, _agents) = sick("d31")?;
    let node = &lab.nodes[0];
    let spoil = format!(
        "mount -t tmpfs tmpfs /opt; mkdir -p {CNI_BIN_DIR}; mkdir -p /run/containerd; touch /run/containerd/containerd.sock"
    );
    let told = doctor_after(node, &spoil, &[])?;
    std::fs::remove_dir_all("/run/containerd")?;
    told.says("runtime", "error", &["slash32", CNI_BIN_DIR])?;
    told.says("runtime", "error", &["loopback"])
}
