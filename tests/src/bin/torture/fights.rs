//! Other programs that undo what the agent does, for as long as they like: the agent comes back to the wanted state, does
//! not eat the node meanwhile, and touches nothing that is theirs.

use crate::scale::{fight, tell};
use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use slash32_tests::cpu::time_of;
use slash32_tests::judge::kernel_state;
use slash32_tests::lab::Lab;
use slash32_tests::machine::Running;
use slash32_tests::node::Node;
use slash32_tests::random::Random;
use slash32_tests::suite::Test;
use slash32_tests::wait;
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_fight_over_routes_links_and_elements_ends_as_it_began_and_costs_little",
        over_routes_and_elements,
    ),
    (
        "a_fight_over_the_ruleset_ends_as_it_began_and_costs_little",
        over_the_ruleset,
    ),
    (
        "a_flood_of_foreign_route_changes_costs_little_and_hides_nothing",
        flood,
    ),
    ("events_lost_in_a_flood_are_made_up_for", overrun),
];

/// Of one core, while somebody fights: the agent, and every nft that it starts.
const SHARE_AT_MOST: f64 = 0.5;
const PEACE: Duration = Duration::from_secs(30);

/// What must survive untouched.
const FOREIGN: &str = "ip route add 203.0.113.0/24 via 192.0.2.254 proto static
    ip route add 10.244.77.0/24 via 192.0.2.254 proto 186
    ip -6 route add 2001:db8:77::/48 via 2001:db8:2::254 proto static
    ip link add foreign0 type veth peer name foreign1
    ip address add 10.77.0.1/24 dev foreign0
    ip neigh add 192.0.2.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent";

/// One act of a program that knows nothing of us, or means harm.
const ON_ROUTES: [&str; 12] = [
    "ip route del 10.244.2.0/24 proto 32",
    "ip -6 route del fd00:244:2::/64 proto 32",
    "ip route replace 10.244.3.0/24 via 192.0.2.2 proto 32",
    "ip route append 10.244.2.0/24 via 192.0.2.3 proto 32",
    "ip -6 route append fd00:244:3::/64 via 2001:db8:2::2 proto 32",
    "ip route flush proto 32",
    "ip -6 route flush proto 32",
    "ip route add 10.99.0.0/24 via 192.0.2.2 proto 32",
    "ip route add 10.244.2.0/24 via 192.0.2.254 metric 7 proto 32",
    "nft flush map inet slash32 hostports4-any",
    "nft add element inet slash32 hostports4-any '{ tcp . 9999 : 10.244.1.99 . 99 }'",
    "nft flush set inet slash32 hairpin4",
];

const ON_THE_RULESET: [&str; 6] = [
    "nft flush ruleset",
    "nft delete table inet slash32",
    "nft flush chain inet slash32 from-pod",
    "nft 'add table inet slash32; delete table inet slash32; table inet slash32 { chain theirs { type filter hook forward priority 0; drop; } }'",
    "nft add rule inet slash32 nat-postrouting accept",
    "nft flush set inet slash32 cluster4",
];

struct Ring {
    lab: Lab,
    agents: Vec<Running>,
    before: String,
}

impl Ring {
    /// Three nodes, pods with host ports on the first, foreign things around them.
    fn new(name: &str) -> Result<Ring> {
        let (lab, agents) = Lab::with_agents(name, 3)?;
        let node = &lab.nodes[0];
        node.machine.run(&["sh", "-ec", FOREIGN])?;
        node.machine
            .nft("table inet other {\nset s {\ntype ipv4_addr; elements = { 10.0.0.1 }\n}\nchain c {\ntype filter hook input priority 0; ip saddr @s drop\n}\n}")?;
        node.add_pod_with_ports("a", &[(8080, 80, "tcp"), (8080, 80, "udp")])?;
        node.add_pod("b")?;
        // The agent has seen the pods' routes when it is at rest.
        wait::until("rest", PEACE, || {
            let seen = metric(node, "slash32_reconcile_duration_seconds_count")?;
            std::thread::sleep(Duration::from_millis(300));
            Ok(metric(node, "slash32_reconcile_duration_seconds_count")? - seen < 1.0)
        })?;
        let before = kernel_state(node)?;
        Ok(Ring {
            lab,
            agents,
            before,
        })
    }

    fn node(&self) -> &Node {
        &self.lab.nodes[0]
    }

    /// Acts at random until the time is over; the agent's share of one core meanwhile.
    fn fight(&self, acts: &[&str], random: &mut Random) -> Result<(usize, f64)> {
        let pid = self.agents[0].child.id();
        let (used, start) = (time_of(pid)?, Instant::now());
        let mut count = 0;
        while start.elapsed() < fight() {
            self.node()
                .machine
                .try_run(&["sh", "-c", *random.pick::<&str>(acts)])?;
            count += 1;
        }
        let share = (time_of(pid)? - used).as_secs_f64() / start.elapsed().as_secs_f64();
        Ok((count, share))
    }

    fn expect_peace(&self) -> Result<Duration> {
        let mut now = String::new();
        let found = wait::until("everything is as before", PEACE, || {
            now = kernel_state(self.node())?;
            Ok(now == self.before)
        });
        found.map_err(|error| {
            let differ = |of: &str, other: &str| -> Vec<String> {
                let lines = of.lines().filter(|line| !other.contains(line));
                lines.map(str::to_owned).collect()
            };
            error.context(format!(
                "lost {:?}, new {:?}",
                differ(&self.before, &now),
                differ(&now, &self.before)
            ))
        })
    }
}

fn metric(node: &Node, name: &str) -> Result<f64> {
    let text = node.ask_agent("/metrics")?.1;
    let values: Vec<f64> = text
        .lines()
        .filter(|line| line.starts_with(name))
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    ensure!(!values.is_empty(), "no metric {name}:\n{text}");
    Ok(values.iter().sum())
}

fn over_routes_and_elements() -> Result<()> {
    let ring = Ring::new("f1")?;
    let (acts, share) = ring.fight(&ON_ROUTES, &mut Random::named("routes"))?;
    let repairs = metric(ring.node(), "slash32_route_repairs_total")?
        + metric(ring.node(), "slash32_nftables_element_repairs_total")?;
    let peace = ring.expect_peace()?;
    tell(format_args!(
        "routes and elements: {acts} hostile acts in {:?}, {repairs} repairs, {share:.3} of a core, all as before {peace:?} later",
        fight()
    ));
    ensure!(repairs > 5.0, "the agent repaired nothing: {repairs}");
    ensure!(share < SHARE_AT_MOST, "{share:.3} of a core");
    Ok(())
}

fn over_the_ruleset() -> Result<()> {
    let mut ring = Ring::new("f2")?;
    // 'flush ruleset' takes the foreign table too, which nobody but its owner brings back.
    ring.node().machine.nft("delete table inet other")?;
    ring.before = kernel_state(ring.node())?;
    let (acts, share) = ring.fight(&ON_THE_RULESET, &mut Random::named("ruleset"))?;
    let writes = metric(ring.node(), "slash32_nftables_writes_total")?;
    let peace = ring.expect_peace()?;
    let seconds = fight().as_secs_f64();
    tell(format_args!(
        "ruleset: {acts} hostile acts in {seconds} s, {writes} tables laid, {share:.3} of a core, all as before {peace:?} later"
    ));
    ensure!(share < SHARE_AT_MOST, "{share:.3} of a core");
    // Some dozens at once, then one each second: that it backs off, seen in its own metrics.
    ensure!(
        writes > 5.0 && writes < 80.0 + 5.0 * seconds,
        "{writes} tables in {seconds} s"
    );
    Ok(())
}

/// Adds and removes foreign routes as fast as iproute2 can, in batches of a thousand.
fn flood_once(node: &Node) -> Result<()> {
    let script = "i=0; while [ $i -lt 1000 ]; do echo \"route add 100.64.$((i / 250)).$((i % 250))/32 via 192.0.2.254 proto 99\"; i=$((i + 1)); done > /run/slash32/flood.add
        sed s/add/del/ /run/slash32/flood.add > /run/slash32/flood.del
        for round in 1 2 3 4 5; do ip -batch /run/slash32/flood.add; ip -batch /run/slash32/flood.del; done
        rm /run/slash32/flood.add /run/slash32/flood.del";
    node.machine.run(&["sh", "-ec", script]).map(drop)
}

fn flood() -> Result<()> {
    let ring = Ring::new("f3")?;
    let pid = ring.agents[0].child.id();
    let (used, start) = (time_of(pid)?, Instant::now());
    let mut changes = 0;
    while start.elapsed() < fight() {
        flood_once(ring.node())?;
        changes += 10_000;
    }
    let share = (time_of(pid)? - used).as_secs_f64() / start.elapsed().as_secs_f64();
    // In the middle of it, our own route.
    ring.node()
        .machine
        .run(&["ip", "route", "del", "10.244.2.0/24"])?;
    let peace = ring.expect_peace()?;
    tell(format_args!(
        "flood: {changes} foreign route changes, {share:.3} of a core, a route deleted at its end back after {peace:?}"
    ));
    ensure!(share < SHARE_AT_MOST, "{share:.3} of a core");
    Ok(())
}

fn overrun() -> Result<()> {
    let ring = Ring::new("f4")?;
    let node = ring.node();
    ring.agents[0].signal(Signal::SIGSTOP)?;
    node.machine.run(&[
        "sh",
        "-ec",
        "ip route del 10.244.2.0/24; ip -6 route del fd00:244:3::/64",
    ])?;
    for _ in 0..4 {
        flood_once(node)?;
    }
    node.machine.run(&["ip", "route", "del", "10.244.3.0/24"])?;
    ring.agents[0].signal(Signal::SIGCONT)?;
    let peace = ring.expect_peace()?;
    let overruns = metric(node, "slash32_netlink_overruns_total")?;
    tell(format_args!(
        "overrun: 40000 changes while the agent was stopped, {overruns} overruns, all as before {peace:?} later"
    ));
    ensure!(overruns > 0.0, "no event was lost: the flood is too small");
    Ok(())
}
