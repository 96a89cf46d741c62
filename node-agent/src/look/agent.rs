//! Asks the agent that may be running on this node, over its own HTTP address. Silence is an answer like any other.

use crate::report::AgentReport;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// It answers from memory, within milliseconds; a machine that is very busy may take longer.
const PATIENCE: Duration = Duration::from_secs(3);
/// A report of ten thousand Nodes has 2 MiB.
const LARGEST_ANSWER: u64 = 64 << 20;

/// What became of the question.
#[derive(Debug, Clone)]
pub(crate) enum AgentLook {
    /// It answered.
    Running(Box<AgentReport>),
    /// It did not; why.
    Silent(String),
    /// The setting `listen` is empty, so nobody can ask.
    Off,
}

impl AgentLook {
    /// The report, where there is one.
    pub(crate) fn report(&self) -> Option<&AgentReport> {
        match self {
            AgentLook::Running(report) => Some(report),
            AgentLook::Silent(_) | AgentLook::Off => None,
        }
    }
}

/// Asks for /status.
pub(crate) fn ask(listen: Option<SocketAddr>) -> AgentLook {
    let Some(listen) = listen else {
        return AgentLook::Off;
    };
    let parse = |body: String| serde_json::from_str(&body).map_err(|error| error.to_string());
    match get(listen, "/status").and_then(parse) {
        Ok(report) => AgentLook::Running(report),
        Err(reason) => AgentLook::Silent(format!("no answer from {listen}: {reason}")),
    }
}

/// The body of one GET. HTTP/1.0, so that the answer ends with the connection.
pub(crate) fn get(listen: SocketAddr, path: &str) -> Result<String, String> {
    let said = |error: std::io::Error| error.to_string();
    let address = reachable(listen);
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(said)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(said)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(said)?;
    // In one piece: a server may answer as soon as it has read something.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(said)?;
    let mut text = String::new();
    stream
        .take(LARGEST_ANSWER)
        .read_to_string(&mut text)
        .map_err(said)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("not an HTTP answer")?;
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        // /healthz and /readyz say no with a body that says why.
        Some("200" | "503") => Ok(body.to_owned()),
        Some("404") => Err(format!("it knows no {path}; is it an older version?")),
        _ => Err(format!("it answered {status:?}")),
    }
}

/// An agent that listens on all addresses is asked on the loopback one.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn serve(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn an_agent_that_answers_is_read() {
        let address = serve("HTTP/1.0 200 OK\r\n\r\n{\"version\": \"0.1.0\", \"uptimeS\": 7}");
        let look = ask(Some(address));
        assert_eq!(look.report().map(|report| report.uptime_s), Some(7));
    }

    #[test]
    fn an_older_agent_and_a_silent_port_are_told_apart() {
        let address = serve("HTTP/1.0 404 Not Found\r\n\r\n");
        let AgentLook::Silent(reason) = ask(Some(address)) else {
            panic!("no silence")
        };
        assert!(reason.contains("older version"), "{reason}");
        let closed = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let AgentLook::Silent(reason) = ask(Some(closed)) else {
            panic!("no silence")
        };
        assert!(reason.contains("refused"), "{reason}");
    }

    #[test]
    fn all_addresses_means_the_loopback_one() {
        let on = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(on("0.0.0.0:9532"), "127.0.0.1:9532");
        assert_eq!(on("[::]:9532"), "[::1]:9532");
        assert_eq!(on("192.0.2.1:1"), "192.0.2.1:1");
    }
}
