//! A node for tests: eth0 with 192.0.2.1/24 and 2001:db8::1/64 on a link of its own, a file of Nodes, an agent.

use dataplane::netlink::Netlink;
use dataplane::route::RouteInfo;
use node_state::StateDir;
use node_state::record::{AttachmentKey, AttachmentRecord, HostPort, NetnsId, PortProtocol};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Nodes b and c are on the link, each of both families.
pub(crate) const CLUSTER: [&str; 3] = ["a", "b", "c"];

pub(crate) struct Node {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) netlink: Netlink,
}

/// Runs `line` by the shell; fails with what it said.
pub(crate) fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-ec", line]).output().expect("sh");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Calls `look` until it is true, at most `patience`; how long that took.
pub(crate) fn wait_for(what: &str, patience: Duration, mut look: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !look() {
        assert!(
            start.elapsed() < patience,
            "{what}: not within {patience:?}"
        );
        std::thread::sleep(Duration::from_micros(500));
    }
    start.elapsed()
}

impl Node {
    pub(crate) fn new() -> Node {
        sh("ip link set lo up
            ip link add eth0 type veth peer name wire0
            ip link set wire0 up
            ip link set eth0 up
            ip address add 192.0.2.1/24 dev eth0
            ip address add 2001:db8::1/64 dev eth0 nodad");
        let node = Node {
            dir: tempfile::tempdir().expect("tempdir"),
            netlink: Netlink::open().expect("netlink"),
        };
        node.write_nodes(&CLUSTER);
        node
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The file of Nodes: node a is 192.0.2.1 with 10.244.0.0/24 and fd00:244::/64, b the next of each, and so on.
    pub(crate) fn write_nodes(&self, names: &[&str]) {
        let item = |name: &&str| {
            let number = name.as_bytes()[0] - b'a';
            format!(
                "- metadata: {{name: {name}}}\n  spec: {{podCIDRs: [10.244.{number}.0/24, 'fd00:244:0:{number}::/64']}}\n  \
                 status: {{addresses: [{{type: InternalIP, address: 192.0.2.{0}}}, {{type: InternalIP, address: '2001:db8::{0}'}}]}}\n",
                number + 1
            )
        };
        let items: String = names.iter().map(item).collect();
        self.write_file(&format!("items:\n{items}kind: List\n"));
    }

    pub(crate) fn write_file(&self, text: &str) {
        let new = self.path("nodes.new");
        std::fs::write(&new, text).expect("write");
        std::fs::rename(new, self.path("nodes.yaml")).expect("rename");
    }

    /// The agent's program with this node's settings.
    pub(crate) fn agent(&self, command: &str) -> Command {
        let mut agent = Command::new(env!("CARGO_BIN_EXE_slash32-agent"));
        agent
            .arg(command)
            .env("SLASH32_NODE_NAME", "a")
            .env("SLASH32_NODES_FILE", self.path("nodes.yaml"))
            .env("SLASH32_STATE_DIR", self.path("run"))
            .env("SLASH32_CNI_CONF_DIR", self.path("net.d"))
            .env("SLASH32_LOG_FORMAT", "text");
        agent
    }

    /// One pass: (exit code, log).
    pub(crate) fn once(&self) -> (i32, String) {
        finish(self.agent("run").arg("--once"))
    }

    /// One pass that must converge.
    pub(crate) fn converge(&self) -> String {
        let (code, log) = self.once();
        assert_eq!(code, 0, "{log}");
        log
    }

    /// An agent that runs until it is dropped; returned once it is ready.
    pub(crate) fn start(&self) -> Running {
        let log = std::fs::File::create(self.path("log")).expect("log");
        let child = self
            .agent("run")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("agent");
        let running = Running {
            child,
            log: self.path("log"),
        };
        wait_for("readiness", Duration::from_secs(10), || {
            get("/readyz").is_some_and(|answer| answer.contains(" 200 "))
        });
        running
    }

    /// Routes of ours as `ip route` spells them.
    pub(crate) fn own_routes(&mut self) -> Vec<String> {
        let mut routes: Vec<String> = self
            .netlink
            .list_own_routes()
            .expect("routes")
            .iter()
            .map(|route| route.spec.to_string())
            .collect();
        routes.sort();
        routes
    }

    pub(crate) fn find_route(&mut self, dst: &str) -> Option<RouteInfo> {
        let dst = dst.parse().expect("CIDR");
        let routes = self.netlink.list_own_routes().expect("routes");
        routes.into_iter().find(|route| route.spec.key.dst == dst)
    }

    pub(crate) fn state(&self) -> StateDir {
        StateDir::new(self.path("run"))
    }

    pub(crate) fn conflist(&self) -> PathBuf {
        self.path("net.d/10-slash32.conflist")
    }

    /// A pod as the plugin leaves it: record, link, host route; port 8080 of the node to port 80.
    pub(crate) fn add_pod(&self, container: &str, address: &str) -> AttachmentRecord {
        let record = self.write_record(container, address);
        sh(&format!(
            "ip link add {0} address ee:ee:ee:ee:ee:ee type veth peer name p{1}; ip link set {0} up; ip link set p{1} up
             ip route add {address} dev {0} proto 32",
            record.host_link, container
        ));
        record
    }

    /// Only the record, with a host port 8080 + the address's last number.
    pub(crate) fn write_record(&self, container: &str, address: &str) -> AttachmentRecord {
        let key = AttachmentKey {
            network: "slash32".into(),
            container_id: container.into(),
            ifname: "eth0".into(),
        };
        let pod_ip: IpAddr = address.parse().expect("address");
        let last = match pod_ip {
            IpAddr::V4(v4) => u16::from(v4.octets()[3]),
            IpAddr::V6(v6) => v6.segments()[7],
        };
        let record = AttachmentRecord {
            host_link: key.host_link(),
            key,
            boot_id: node_state::boot_id().expect("boot id"),
            netns: NetnsId {
                path: "/run/netns/none".into(),
                dev: 1,
                ino: 1,
            },
            addresses: vec![pod_ip.into()],
            host_ports: vec![HostPort {
                host_ip: None,
                host_port: 8080 + last,
                protocol: PortProtocol::Tcp,
                pod_ip,
                container_port: 80,
            }],
            shaped: false,
            mtu: None,
            mac: None,
            pod: None,
            ipam_type: "slash32-ipam".into(),
            ipam_data_dir: None,
            created_ms: 1,
        };
        self.state().write_record(&record).expect("record");
        record
    }
}

/// (exit code, all that it said).
pub(crate) fn finish(command: &mut Command) -> (i32, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.stdin(Stdio::null()).output().expect("agent");
    let said = [stdout, stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat();
    (status.code().unwrap_or(-1), said)
}

/// An HTTP answer of the agent, headers and all.
pub(crate) fn get(path: &str) -> Option<String> {
    let mut stream = TcpStream::connect("127.0.0.1:9532").ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// A running agent; killed at the end of the test unless it was stopped.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGTERM; its exit code.
    pub(crate) fn stop(mut self) -> i32 {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("kill");
        self.child.wait().expect("wait").code().unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the agent's log:\n{}", self.log());
        }
    }
}
