//! ADD on a real kernel: what it answers, and that what it answers is true (A1-A10, X2).

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use slash32_tests::pod::Pod;
use slash32_tests::site::{Reply, Site, dual_stack, ip_json, kernel_of, only, patched};
use slash32_tests::{suite, traffic};
use std::process::ExitCode;
use std::time::Instant;

const GATEWAY_V4: &str = "169.254.1.1";

fn main() -> ExitCode {
    suite::main(&[
        (
            "a6_a7_a_dual_stack_result_is_true_in_the_kernel",
            dual_stack_result_is_true,
        ),
        (
            "a7_ipv4_alone_and_ipv6_alone_are_true_in_the_kernel",
            single_stack_results_are_true,
        ),
        (
            "a8_each_version_has_its_own_shape",
            each_version_has_its_own_shape,
        ),
        (
            "a1_a_second_add_of_a_live_attachment_touches_nothing",
            second_add_touches_nothing,
        ),
        (
            "a1_an_interface_name_that_the_pod_has_is_refused_and_left_alone",
            taken_interface_name_is_refused,
        ),
        (
            "g18_add_in_the_plugins_own_namespace_is_refused_before_anything",
            own_namespace_is_refused,
        ),
        (
            "a_pod_may_have_several_interfaces_and_keeps_its_default_route",
            several_interfaces,
        ),
        ("x5_mac_and_ips_are_as_asked_for", mac_and_ips_as_asked_for),
        (
            "x5_an_address_that_cannot_be_had_is_an_error_and_leaves_nothing",
            address_that_cannot_be_had,
        ),
        (
            "i7_ip_ranges_replace_the_configured_ones",
            ip_ranges_replace,
        ),
        (
            "x4_bandwidth_in_both_spellings_is_shaped_in_both_directions",
            bandwidth_is_shaped,
        ),
        (
            "i6_a_full_pool_is_told_at_once_and_leaves_nothing",
            full_pool_is_told,
        ),
        (
            "i4_a_full_second_family_gives_the_first_back",
            full_second_family,
        ),
        (
            "a2_a_plugin_before_ours_in_the_chain_is_refused",
            prev_result_is_refused,
        ),
        (
            "state_and_claims_may_lie_elsewhere",
            state_and_claims_elsewhere,
        ),
        (
            "ipam_routes_replace_the_default_route",
            ipam_routes_replace_default,
        ),
        (
            "g5_a_container_id_of_4096_characters_works",
            long_container_id,
        ),
    ])
}

/// Everything that a result of 1.x says, read back with ip(8), and a packet through it (A7).
fn expect_true(site: &Site, pod: &Pod) -> Result<()> {
    let interface = &pod.result["interfaces"][1];
    let eth0 = ip_json(&pod.machine, &["-d", "addr", "show", "eth0"])?.remove(0);
    ensure!(interface["name"] == "eth0" && is_up(&eth0), "{eth0}");
    ensure!(
        interface["mac"] == eth0["address"] && interface["mtu"] == eth0["mtu"],
        "{eth0}"
    );
    ensure!(interface["sandbox"] == *pod.machine.netns().to_string_lossy());
    ensure!(pod.result["interfaces"][0].get("sandbox").is_none());
    let host = ip_json(&site.node.machine, &["link", "show", &pod.host_link()])?.remove(0);
    ensure!(is_up(&host) && host["mtu"] == eth0["mtu"], "{host}");
    ensure!(pod.result["interfaces"][0]["mac"] == host["address"]);
    for (ip, address) in pod.result["ips"]
        .as_array()
        .context("ips")?
        .iter()
        .zip(pod.addresses())
    {
        ensure!(ip["interface"] == 1);
        expect_address(&eth0, &address)?;
        expect_routed(site, pod, &address, &eth0["address"])?;
        traffic::ping(&site.node.machine, &address)?;
    }
    expect_default_routes(pod)
}

/// By flags: the kernel settles operstate in its own time.
fn is_up(link: &Value) -> bool {
    let flags = link["flags"].as_array().cloned().unwrap_or_default();
    ["UP", "LOWER_UP"]
        .iter()
        .all(|flag| flags.contains(&json!(flag)))
}

fn expect_address(eth0: &Value, address: &str) -> Result<()> {
    let length = if address.contains(':') { 128 } else { 32 };
    let found = eth0["addr_info"].as_array().context("addr_info")?;
    let info = found
        .iter()
        .find(|info| info["local"] == address)
        .with_context(|| format!("{address} is not in {eth0}"))?;
    ensure!(info["prefixlen"] == length, "{info}");
    ensure!(
        info.get("tentative").is_none() && info["scope"] == "global",
        "{info}"
    );
    Ok(())
}

/// The host's route of protocol 32, and permanent neighbours on both sides.
fn expect_routed(site: &Site, pod: &Pod, address: &str, mac: &Value) -> Result<()> {
    let (family, gateway) = family_of(pod, address);
    let node = &site.node.machine;
    let routes = ip_json(node, &[family, "route", "show", address])?;
    ensure!(
        routes.len() == 1 && routes[0]["dev"] == pod.host_link() && routes[0]["protocol"] == "32",
        "{routes:?}"
    );
    let link = pod.host_link();
    let host_side = ip_json(
        node,
        &[family, "neigh", "show", "dev", &link, "nud", "permanent"],
    )?;
    ensure!(
        host_side
            .iter()
            .any(|n| n["dst"] == address && n["lladdr"] == *mac),
        "{host_side:?}"
    );
    let pod_side = ip_json(&pod.machine, &[family, "neigh", "show", "nud", "permanent"])?;
    ensure!(
        pod_side
            .iter()
            .any(|n| n["dst"] == gateway && n["lladdr"] == "ee:ee:ee:ee:ee:ee"),
        "{pod_side:?}"
    );
    Ok(())
}

fn family_of(pod: &Pod, address: &str) -> (&'static str, Value) {
    if !address.contains(':') {
        return ("-4", json!(GATEWAY_V4));
    }
    let ips = pod.result["ips"].as_array().cloned().unwrap_or_default();
    let gateway = ips
        .iter()
        .find(|ip| ip["address"] == format!("{address}/128"));
    (
        "-6",
        gateway.map_or(Value::Null, |ip| ip["gateway"].clone()),
    )
}

fn expect_default_routes(pod: &Pod) -> Result<()> {
    for route in pod.result["routes"].as_array().context("routes")? {
        let dst = route["dst"].as_str().context("dst")?;
        let family = if dst.contains(':') { "-6" } else { "-4" };
        let shown = ip_json(&pod.machine, &[family, "route", "show", "default"])?;
        ensure!(dst.ends_with("/0"), "{route}");
        ensure!(
            shown.iter().any(|r| r["gateway"] == route["gw"]),
            "{route} is not in {shown:?}"
        );
    }
    Ok(())
}

fn dual_stack_result_is_true() -> Result<()> {
    let site = Site::new()?;
    let pod = site.add("c1", &dual_stack())?;
    ensure!(pod.result["cniVersion"] == "1.1.0" && pod.addresses().len() == 2);
    ensure!(
        pod.result["routes"]
            .as_array()
            .is_some_and(|routes| routes.len() == 2)
    );
    // Podless kubelets and go-cni take the first address for the primary one (2.5).
    ensure!(!pod.addresses()[0].contains(':'));
    expect_true(&site, &pod)?;
    pod.del()?;
    site.expect_clean()
}

fn single_stack_results_are_true() -> Result<()> {
    for subnet in ["10.244.1.0/24", "fd00:244:1::/64"] {
        let site = Site::new()?;
        let pod = site.add("c1", &only(subnet))?;
        ensure!(pod.addresses().len() == 1, "{}", pod.result);
        ensure!(
            pod.result["routes"]
                .as_array()
                .is_some_and(|routes| routes.len() == 1)
        );
        expect_true(&site, &pod)?;
        pod.del()?;
        site.expect_clean()?;
    }
    Ok(())
}

fn each_version_has_its_own_shape() -> Result<()> {
    for version in [
        "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
    ] {
        let site = Site::new()?;
        let request = patched(&dual_stack(), json!({"cniVersion": version}));
        let netns = site.netns()?;
        let result = site.call("ADD", "c1", &netns, &request)?.success()?;
        expect_shape(version, &result).with_context(|| format!("{version}: {result}"))?;
        traffic::ping(&site.node.machine, "10.244.1.1")
            .or_else(|_| traffic::ping(&site.node.machine, "10.244.1.2"))?;
        site.call("DEL", "c1", &netns, &request)?.silent()?;
        site.expect_clean()?;
    }
    // G11: no version is the oldest.
    let site = Site::new()?;
    let request = patched(&dual_stack(), json!({"cniVersion": null}));
    let result = site
        .call("ADD", "c1", &site.netns()?, &request)?
        .success()?;
    ensure!(result["ip4"]["ip"].is_string(), "{result}");
    Ok(())
}

fn expect_shape(version: &str, result: &Value) -> Result<()> {
    ensure!(result["cniVersion"] == version);
    let legacy = version < "0.3.0";
    let keyed_by_family = result["ip4"]["ip"]
        .as_str()
        .is_some_and(|ip| ip.ends_with("/32"))
        && result["ip6"]["ip"]
            .as_str()
            .is_some_and(|ip| ip.ends_with("/128"))
        && result["ip4"]["routes"][0]["dst"] == "0.0.0.0/0";
    ensure!(legacy == keyed_by_family, "ip4 and ip6");
    ensure!(legacy == result.get("interfaces").is_none(), "interfaces");
    ensure!(legacy == result.get("ips").is_none(), "ips");
    if legacy {
        return Ok(());
    }
    let family_named = result["ips"][0]["version"] == "4" && result["ips"][1]["version"] == "6";
    ensure!((version < "1.0.0") == family_named, "ips[].version");
    ensure!(version >= "1.0.0" || result["ips"][0].get("version").is_some());
    if version < "1.0.0" {
        // 1.1's own field.
        ensure!(result["interfaces"][1].get("mtu").is_none(), "mtu");
    }
    ensure!(
        version != "1.1.0" || result["interfaces"][1]["mtu"] == 1380,
        "mtu"
    );
    Ok(())
}

fn second_add_touches_nothing() -> Result<()> {
    let site = Site::new()?;
    let pod = site.add("c1", &dual_stack())?;
    let before = (site.snapshot()?, kernel_of(&pod.machine)?);
    let text = Reply::read(site.node.call(
        "ADD",
        "c1",
        &pod.machine.netns().to_string_lossy(),
        "eth0",
        &dual_stack(),
    )?)?
    .failed()?;
    ensure!(text.contains("c1") && text.contains("eth0"), "{text}");
    // Into another namespace it is the same attachment still.
    let other = site.netns()?;
    site.call("ADD", "c1", &other, &dual_stack())?.failed()?;
    ensure!(before == (site.snapshot()?, kernel_of(&pod.machine)?));
    ensure!(ip_json(&other, &["link", "show", "type", "veth"])?.is_empty());
    expect_true(&site, &pod)
}

fn taken_interface_name_is_refused() -> Result<()> {
    let site = Site::new()?;
    let netns = site.netns()?;
    netns.run(&[
        "ip",
        "link",
        "add",
        "eth0",
        "address",
        "02:00:00:00:00:99",
        "type",
        "veth",
        "peer",
        "name",
        "other",
    ])?;
    netns.run(&["ip", "address", "add", "172.16.0.1/24", "dev", "eth0"])?;
    let before = kernel_of(&netns)?;
    let text = site.call("ADD", "c1", &netns, &dual_stack())?.failed()?;
    ensure!(text.contains("eth0"), "{text}");
    ensure!(kernel_of(&netns)? == before);
    site.expect_clean()
}

fn own_namespace_is_refused() -> Result<()> {
    let site = Site::new()?;
    let before = site.snapshot()?;
    for path in [
        site.node.machine.netns().to_string_lossy().into_owned(),
        "/proc/self/ns/net".into(),
    ] {
        let text = site
            .call_at("ADD", "c1", &path, "eth0", &dual_stack())?
            .refused(8)?;
        ensure!(text.contains(&path), "{text}");
    }
    ensure!(site.snapshot()? == before);
    site.expect_clean()
}

fn several_interfaces() -> Result<()> {
    let site = Site::new()?;
    let pod = site.add("c1", &dual_stack())?;
    let routes = kernel_of(&pod.machine)?;
    let default = |text: &str| {
        text.lines()
            .filter(|l| l.starts_with("default"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let second = patched(
        &dual_stack(),
        json!({"ipam": {"ranges": [[{"subnet": "10.244.9.0/24"}], [{"subnet": "fd00:244:9::/64"}]]}}),
    );
    let netns = pod.machine.netns();
    let result = site
        .call_at("ADD", "c1", &netns.to_string_lossy(), "net1", &second)?
        .success()?;
    ensure!(default(&kernel_of(&pod.machine)?) == default(&routes));
    let address = result["ips"][0]["address"]
        .as_str()
        .context("ips")?
        .trim_end_matches("/32");
    traffic::ping(&site.node.machine, address)?;
    traffic::ping(&site.node.machine, &pod.v4())?;
    Reply::read(pod.call("CHECK")?)?.silent()?;
    site.call_at("DEL", "c1", &netns.to_string_lossy(), "net1", &second)?
        .silent()?;
    expect_true(&site, &pod)?;
    pod.del()?;
    site.expect_clean()
}

fn mac_and_ips_as_asked_for() -> Result<()> {
    let site = Site::new()?;
    let asked = json!({"runtimeConfig": {"mac": "c2:b0:57:49:47:f1", "ips": ["10.244.1.77/24", "fd00:244:1::77"]}});
    let pod = site.add("c1", &patched(&dual_stack(), asked))?;
    ensure!(
        pod.addresses() == ["10.244.1.77", "fd00:244:1::77"],
        "{}",
        pod.result
    );
    ensure!(pod.result["interfaces"][1]["mac"] == "c2:b0:57:49:47:f1");
    expect_true(&site, &pod)?;
    // args.cni.ips and, where that is absent, CNI_ARGS (A11); multus spells several with commas.
    let noted = site.add(
        "c2",
        &patched(
            &dual_stack(),
            json!({"args": {"cni": {"ips": ["10.244.1.78"]}}}),
        ),
    )?;
    ensure!(noted.v4() == "10.244.1.78", "{}", noted.result);
    let netns = site.netns()?;
    let path = netns.netns().to_string_lossy().into_owned();
    let environment = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c3"),
        ("CNI_NETNS", &path),
        ("CNI_IFNAME", "eth0"),
        (
            "CNI_ARGS",
            "IgnoreUnknown=1;IP=10.244.1.79,fd00:244:1::79;MAC=02:00:00:00:00:79",
        ),
    ];
    let stdin = dual_stack().to_string();
    let result = Reply::read(
        site.node
            .call_plugin("slash32", &environment, stdin.as_bytes())?,
    )?
    .success()?;
    ensure!(
        result["ips"][0]["address"] == "10.244.1.79/32"
            && result["ips"][1]["address"] == "fd00:244:1::79/128",
        "{result}"
    );
    ensure!(result["interfaces"][1]["mac"] == "02:00:00:00:00:79");
    Ok(())
}

fn address_that_cannot_be_had() -> Result<()> {
    let site = Site::new()?;
    let first = site.add(
        "c1",
        &patched(
            &dual_stack(),
            json!({"runtimeConfig": {"ips": ["10.244.1.77"]}}),
        ),
    )?;
    let before = site.snapshot()?;
    for address in ["10.244.1.77", "10.245.0.1", "10.244.1.0", "10.244.1.255"] {
        let request = patched(&dual_stack(), json!({"runtimeConfig": {"ips": [address]}}));
        let text = site.call("ADD", "c2", &site.netns()?, &request)?.failed()?;
        ensure!(text.contains(address), "{address}: {text}");
        ensure!(site.snapshot()? == before, "{address}: something changed");
    }
    first.del()?;
    site.expect_clean()
}

fn ip_ranges_replace() -> Result<()> {
    let site = Site::new()?;
    let asked = json!({"runtimeConfig": {"ipRanges": [[{"subnet": "10.250.0.0/28"}]]}});
    let pod = site.add("c1", &patched(&dual_stack(), asked))?;
    ensure!(
        pod.addresses().len() == 1 && pod.v4().starts_with("10.250.0."),
        "{}",
        pod.result
    );
    expect_true(&site, &pod)?;
    pod.del()?;
    site.expect_clean()
}

fn bandwidth_is_shaped() -> Result<()> {
    let spellings = [
        json!({"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 16_000_000, "egressBurst": 800_000}),
        json!({"IngressRate": 8_000_000, "IngressBurst": 800_000, "EgressRate": 16_000_000, "EgressBurst": 800_000}),
    ];
    for bandwidth in spellings {
        let site = Site::new()?;
        let request = patched(
            &dual_stack(),
            json!({"runtimeConfig": {"bandwidth": bandwidth}}),
        );
        let pod = site.add("c1", &request)?;
        let shaped = site.node.machine.read(&["tc", "qdisc", "show"])?;
        for rate in ["rate 8Mbit", "rate 16Mbit"] {
            ensure!(shaped.contains(rate), "{rate} is not in {shaped}");
        }
        traffic::ping(&site.node.machine, &pod.v4())?;
        Reply::read(pod.call("CHECK")?)?.silent()?;
        pod.del()?;
        site.expect_clean()?;
    }
    Ok(())
}

fn full_pool_is_told() -> Result<()> {
    let site = Site::new()?;
    let request = only("10.244.1.0/30");
    let pods = [site.add("c1", &request)?, site.add("c2", &request)?];
    let before = site.snapshot()?;
    let (netns, started) = (site.netns()?, Instant::now());
    let text = site.call("ADD", "c3", &netns, &request)?.refused(11)?;
    ensure!(
        started.elapsed().as_millis() < 500,
        "took {:?}",
        started.elapsed()
    );
    ensure!(
        text.contains("no IP addresses available in range set: 10.244.1.1-10.244.1.2"),
        "{text}"
    );
    ensure!(site.snapshot()? == before);
    // The runtime's DEL after it, and room again.
    site.call("DEL", "c3", &netns, &request)?.silent()?;
    let [first, second] = pods;
    let freed = first.v4();
    first.del()?;
    let result = site.call("ADD", "c3", &netns, &request)?.success()?;
    ensure!(result["ips"][0]["address"] == format!("{freed}/32"));
    site.call("DEL", "c3", &netns, &request)?.silent()?;
    second.del()?;
    site.expect_clean()
}

fn full_second_family() -> Result<()> {
    let site = Site::new()?;
    let request = patched(
        &dual_stack(),
        json!({"ipam": {"ranges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00::/126", "rangeStart": "fd00::2", "rangeEnd": "fd00::2"}]]}}),
    );
    let pod = site.add("c1", &request)?;
    let before = site.snapshot()?;
    site.call("ADD", "c2", &site.netns()?, &request)?
        .refused(11)?;
    ensure!(site.snapshot()? == before);
    pod.del()?;
    site.expect_clean()
}

fn prev_result_is_refused() -> Result<()> {
    let site = Site::new()?;
    let request = patched(
        &dual_stack(),
        json!({"prevResult": {"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.1/32"}]}}),
    );
    let text = site
        .call("ADD", "c1", &site.netns()?, &request)?
        .refused(7)?;
    ensure!(text.contains("prevResult"), "{text}");
    site.expect_clean()
}

fn state_and_claims_elsewhere() -> Result<()> {
    let site = Site::new()?;
    let request = patched(
        &dual_stack(),
        json!({"stateDir": "/var/lib/cni/state", "ipam": {"dataDir": "/var/lib/cni/claims"}}),
    );
    let pod = site.add("c1", &request)?;
    let folder = site.node.machine.folder("/var/lib/cni");
    ensure!(folder.join("state/attachments").is_dir() && folder.join("claims/slash32").is_dir());
    ensure!(
        std::fs::read_dir(site.state())?.next().is_none(),
        "something in the default folder"
    );
    Reply::read(pod.call("CHECK")?)?.silent()?;
    // D9: the dataDir of today is another; the record knows where the claim is.
    let moved = patched(
        &request,
        json!({"ipam": {"dataDir": "/var/lib/cni/elsewhere"}}),
    );
    site.call("DEL", "c1", &pod.machine, &moved)?.silent()?;
    let left: Vec<String> = slash32_tests::site::files_below(&folder.join("claims"))?
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| path.contains("/addresses/") || path.contains("/owners/"))
        .collect();
    ensure!(left.is_empty(), "{left:?}");
    site.expect_clean()
}

fn ipam_routes_replace_default() -> Result<()> {
    let site = Site::new()?;
    let request = patched(
        &only("10.244.1.0/24"),
        json!({"ipam": {"routes": [{"dst": "10.0.0.0/8"}, {"dst": "192.0.2.0/24"}]}}),
    );
    let pod = site.add("c1", &request)?;
    let routes = ip_json(&pod.machine, &["route"])?;
    for dst in ["10.0.0.0/8", "192.0.2.0/24"] {
        ensure!(
            routes
                .iter()
                .any(|r| r["dst"] == dst && r["gateway"] == GATEWAY_V4),
            "{routes:?}"
        );
    }
    ensure!(!routes.iter().any(|r| r["dst"] == "default"), "{routes:?}");
    traffic::ping(&site.node.machine, &pod.v4())?;
    Reply::read(pod.call("CHECK")?)?.silent()
}

fn long_container_id() -> Result<()> {
    let site = Site::new()?;
    let (id, netns) = ("a".repeat(4096), site.netns()?);
    site.call("ADD", &id, &netns, &dual_stack())?.success()?;
    site.call("DEL", &id, &netns, &dual_stack())?.silent()?;
    site.expect_clean()
}
