//! Other people's plugins below and above ours, as Debian ships them: slash32 with host-local and static as its
//! IPAM, and slash32-ipam below bridge (A3-A5, C6, D2, D8, G16).

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use slash32_tests::libcni::reference_plugin;
use slash32_tests::machine::{Machine, Outcome};
use slash32_tests::programs;
use slash32_tests::site::{Reply, Site, dual_stack, patched, with_previous};
use slash32_tests::suite;
use slash32_tests::traffic::ping;
use std::process::ExitCode;

fn main() -> ExitCode {
    let need = || {
        ["host-local", "static", "bridge"]
            .iter()
            .try_for_each(|name| reference_plugin(name).map(drop))
    };
    suite::main_needing(
        need,
        &[
            (
                "a3_host_local_gives_the_addresses_and_gets_them_back",
                host_local,
            ),
            (
                "c6_a_claim_that_host_local_lost_fails_check",
                host_local_lost,
            ),
            (
                "a4_a_full_host_local_is_told_in_its_own_words_and_leaves_nothing",
                host_local_full,
            ),
            (
                "a4_a_link_that_cannot_be_made_gives_host_locals_address_back",
                link_in_the_way,
            ),
            (
                "a3_static_addresses_become_host_addresses",
                static_addresses,
            ),
            (
                "g16_a_version_that_the_ipam_plugin_does_not_speak_is_code_1",
                version_of_ipam,
            ),
            (
                "d8_del_without_the_ipam_program_clears_our_part_and_says_so",
                ipam_program_gone,
            ),
            ("i1_slash32_ipam_serves_bridge", ipam_below_bridge),
        ],
    )
}

/// 1.0.0: Debian's plugins speak no 1.1.0.
fn request(ipam: &Value) -> Value {
    let mut request = patched(&dual_stack(), json!({"cniVersion": "1.0.0"}));
    request["ipam"] = ipam.clone();
    request
}

fn host_local_request(subnet: &str) -> Value {
    request(
        &json!({"type": "host-local", "ranges": [[{"subnet": subnet}], [{"subnet": "fd00:244:1::/64"}]]}),
    )
}

fn host_local() -> Result<()> {
    let site = Site::new()?;
    let pod = site.add("c1", &host_local_request("10.244.1.0/24"))?;
    ensure!(
        pod.addresses().len() == 2 && site.host_local_reservations()?.len() == 2,
        "{}",
        pod.result
    );
    for (ip, length) in pod.result["ips"]
        .as_array()
        .into_iter()
        .flatten()
        .zip(["/32", "/128"])
    {
        ensure!(
            ip["address"]
                .as_str()
                .is_some_and(|text| text.ends_with(length)),
            "{ip}"
        );
    }
    for address in pod.addresses() {
        ping(&site.node.machine, &address)?;
    }
    Reply::read(pod.call("CHECK")?)?.silent()?;
    // Our own allocator was not asked.
    ensure!(!site.state().join("ipam/slash32/addresses").exists());
    pod.del()?;
    ensure!(
        site.host_local_reservations()?.is_empty(),
        "{:?}",
        site.host_local_reservations()?
    );
    site.expect_clean()
}

fn host_local_lost() -> Result<()> {
    let site = Site::new()?;
    let pod = site.add("c1", &host_local_request("10.244.1.0/24"))?;
    for name in site.host_local_reservations()? {
        std::fs::remove_file(
            site.node
                .machine
                .folder("/var/lib/cni")
                .join("networks/slash32")
                .join(name),
        )?;
    }
    Reply::read(pod.call("CHECK")?)?.failed()?;
    pod.del()?;
    site.expect_clean()
}

fn host_local_full() -> Result<()> {
    let site = Site::new()?;
    // Network, gateway, one address, broadcast.
    let request = host_local_request("10.244.1.0/30");
    let pod = site.add("c1", &request)?;
    let before = (site.snapshot()?, site.host_local_reservations()?);
    let netns = site.netns()?;
    let text = site.call("ADD", "c2", &netns, &request)?.failed()?;
    ensure!(
        text.contains("host-local") && text.contains("no IP addresses available"),
        "{text}"
    );
    ensure!(before == (site.snapshot()?, site.host_local_reservations()?));
    site.call("DEL", "c2", &netns, &request)?.silent()?;
    pod.del()?;
    site.expect_clean()
}

fn link_in_the_way() -> Result<()> {
    let site = Site::new()?;
    let (netns, request) = (site.netns()?, host_local_request("10.244.1.0/24"));
    netns.run(&[
        "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other",
    ])?;
    site.call("ADD", "c1", &netns, &request)?.failed()?;
    ensure!(
        site.host_local_reservations()?.is_empty(),
        "{:?}",
        site.host_local_reservations()?
    );
    site.expect_clean()
}

fn static_addresses() -> Result<()> {
    let site = Site::new()?;
    let addresses = json!([{"address": "10.10.0.5/24"}, {"address": "fd00:10::5/64"}]);
    let pod = site.add(
        "c1",
        &request(&json!({"type": "static", "addresses": addresses})),
    )?;
    ensure!(
        pod.addresses() == ["10.10.0.5", "fd00:10::5"],
        "{}",
        pod.result
    );
    // A /24 on the pod's link would send to the link what belongs to the router.
    let shown = pod
        .machine
        .read(&["ip", "-o", "address", "show", "eth0", "scope", "global"])?;
    ensure!(
        shown.contains("10.10.0.5/32") && shown.contains("fd00:10::5/128"),
        "{shown}"
    );
    for address in pod.addresses() {
        ping(&site.node.machine, &address)?;
    }
    Reply::read(pod.call("CHECK")?)?.silent()?;
    pod.del()?;
    site.expect_clean()
}

fn version_of_ipam() -> Result<()> {
    let site = Site::new()?;
    let mut request = host_local_request("10.244.1.0/24");
    request["cniVersion"] = json!("1.1.0");
    let netns = site.netns()?;
    let text = site.call("ADD", "c1", &netns, &request)?.refused(1)?;
    ensure!(text.contains("host-local"), "{text}");
    ensure!(site.host_local_reservations()?.is_empty());
    site.expect_clean()
}

/// slash32 with a CNI_PATH of its own.
fn call_with_path(
    site: &Site,
    path: &str,
    verb: &str,
    netns: &Machine,
    request: &Value,
) -> Result<Reply> {
    let netns = netns.netns().to_string_lossy().into_owned();
    let environment = [
        ("CNI_COMMAND", verb),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", &netns),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", path),
    ];
    Reply::read(
        site.node
            .call_plugin("slash32", &environment, request.to_string().as_bytes())?,
    )
}

fn ipam_program_gone() -> Result<()> {
    let site = Site::new()?;
    let (netns, request) = (site.netns()?, host_local_request("10.244.1.0/24"));
    let ours = programs::binaries()?.display().to_string();
    let text = call_with_path(&site, &ours, "ADD", &netns, &request)?.failed()?;
    ensure!(
        text.contains("host-local") && text.contains(&ours),
        "{text}"
    );
    site.expect_clean()?;
    site.call("ADD", "c1", &netns, &request)?.success()?;
    let text = call_with_path(&site, &ours, "DEL", &netns, &request)?.failed()?;
    ensure!(text.contains("host-local"), "{text}");
    // D7: go-cni takes these words for "nothing to do".
    ensure!(
        !text.contains("not found") && !text.contains("no such file or directory"),
        "{text}"
    );
    let links = site.node.machine.read(&["ip", "-o", "link"])?;
    ensure!(!links.contains("s32"), "{links}");
    site.call("DEL", "c1", &netns, &request)?.silent()?;
    ensure!(site.host_local_reservations()?.is_empty());
    site.expect_clean()
}

fn ipam_below_bridge() -> Result<()> {
    let site = Site::new()?;
    let request = json!({
        "cniVersion": "1.0.0", "name": "slash32", "type": "bridge", "bridge": "cni0", "isGateway": true,
        "ipam": {"type": "slash32-ipam", "ranges": [[{"subnet": "10.88.0.0/24", "gateway": "10.88.0.1"}]]},
    });
    let netns = site.netns()?;
    let path = netns.netns().to_string_lossy().into_owned();
    let call = |verb: &str, request: &Value| -> Result<Outcome> {
        let environment = [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_NETNS", &path),
            ("CNI_IFNAME", "eth0"),
        ];
        site.node
            .call_plugin("bridge", &environment, request.to_string().as_bytes())
    };
    let result = Reply::read(call("ADD", &request)?)?.success()?;
    let address = result["ips"][0]["address"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let (bare, length) = address.split_once('/').unwrap_or_default();
    // What bridge needs is the subnet's own length, where slash32 gives /32.
    ensure!(length == "24" && bare != "10.88.0.1", "{result}");
    ping(&netns, "10.88.0.1")?;
    Reply::read(call("CHECK", &with_previous(&request, &result))?)?.silent()?;
    Reply::read(call("DEL", &with_previous(&request, &result))?)?.silent()?;
    site.expect_clean()
}
