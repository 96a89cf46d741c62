//! Traffic of the lab's own: servers that tell whom they see, and clients that count what is lost.

use crate::machine::Machine;
use crate::wait::stretched;
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything on one machine takes, shorter than a retransmission that hides a loss: TCP's
/// first one comes after a second.
const REPLY_PATIENCE: Duration = Duration::from_millis(900);

/// A TCP and UDP server on one port of a machine, both families. It answers each connection and each
/// datagram with the address that it saw.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
}

impl Server {
    /// Listens when this returns.
    pub fn start(machine: &Machine, port: u16) -> Result<Server> {
        let stop = Arc::new(AtomicBool::new(false));
        let (tcp, udp) = machine.inside(move || -> Result<_> {
            // One dual-stack socket each (net.ipv6.bindv6only is 0).
            Ok((
                TcpListener::bind(("::", port))?,
                UdpSocket::bind(("::", port))?,
            ))
        })??;
        udp.set_read_timeout(Some(Duration::from_millis(100)))?;
        tcp.set_nonblocking(true)?;
        let ended = stop.clone();
        std::thread::spawn(move || serve_tcp(&tcp, &ended));
        let ended = stop.clone();
        std::thread::spawn(move || serve_udp(&udp, &ended));
        Ok(Server { stop })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn serve_tcp(listener: &TcpListener, ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((mut stream, peer)) => {
                let _ = stream.write_all(plain(peer).as_bytes());
            }
            Err(_) => std::thread::sleep(Duration::from_micros(200)),
        }
    }
}

fn serve_udp(socket: &UdpSocket, ended: &AtomicBool) {
    let mut buffer = [0; 64];
    while !ended.load(Ordering::Relaxed) {
        if let Ok((size, peer)) = socket.recv_from(&mut buffer) {
            let mut answer = buffer[..size].to_vec();
            answer.extend_from_slice(plain(peer).as_bytes());
            let _ = socket.send_to(&answer, peer);
        }
    }
}

/// IPv4 peers of a dual-stack socket without their ::ffff: prefix.
fn plain(peer: SocketAddr) -> String {
    peer.ip().to_canonical().to_string()
}

/// Connects from a machine and returns the address that the server saw.
pub fn ask_tcp(from: &Machine, to: &str, port: u16) -> Result<String> {
    let address = socket_address(to, port)?;
    from.inside(move || -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, stretched(REPLY_PATIENCE))
            .with_context(|| format!("connect to {address}"))?;
        stream.set_read_timeout(Some(stretched(REPLY_PATIENCE)))?;
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .with_context(|| format!("read from {address}"))?;
        Ok(answer)
    })?
    .with_context(|| format!("from {}", from.name))
}

/// The same by one datagram.
pub fn ask_udp(from: &Machine, to: &str, port: u16) -> Result<String> {
    let address = socket_address(to, port)?;
    from.inside(move || -> Result<String> {
        let socket = UdpSocket::bind((unspecified(address), 0))?;
        socket.connect(address)?;
        socket.set_read_timeout(Some(stretched(REPLY_PATIENCE)))?;
        socket.send(&[])?;
        let mut buffer = [0; 64];
        let size = socket
            .recv(&mut buffer)
            .with_context(|| format!("no answer from {address}"))?;
        Ok(String::from_utf8_lossy(&buffer[..size]).into_owned())
    })?
    .with_context(|| format!("from {}", from.name))
}

/// Asks by TCP and by UDP; an error unless the server saw `seen` both times.
pub fn expect_seen(from: &Machine, to: &str, port: u16, seen: &str) -> Result<()> {
    for (protocol, answer) in [
        ("tcp", ask_tcp(from, to, port)?),
        ("udp", ask_udp(from, to, port)?),
    ] {
        if answer != seen {
            bail!(
                "{protocol} from {} to {to} port {port}: the server saw {answer}, not {seen}",
                from.name
            );
        }
    }
    Ok(())
}

/// An error if anybody answers by TCP or by UDP.
pub fn expect_silence(from: &Machine, to: &str, port: u16) -> Result<()> {
    for (protocol, answer) in [
        ("tcp", ask_tcp(from, to, port)),
        ("udp", ask_udp(from, to, port)),
    ] {
        if let Ok(seen) = answer {
            bail!(
                "{protocol} from {} to {to} port {port} was answered, to {seen}",
                from.name
            );
        }
    }
    Ok(())
}

fn unspecified(address: SocketAddr) -> &'static str {
    if address.is_ipv6() { "::" } else { "0.0.0.0" }
}

fn socket_address(to: &str, port: u16) -> Result<SocketAddr> {
    Ok(SocketAddr::new(
        to.parse().with_context(|| format!("address {to}"))?,
        port,
    ))
}

/// One echo by ping(8), and its round trip in milliseconds.
pub fn ping(from: &Machine, to: &str) -> Result<f64> {
    let outcome = from.run(&["ping", "-n", "-c1", "-W1", to])?;
    let time = outcome
        .stdout
        .split("time=")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .and_then(|text| text.parse().ok());
    time.with_context(|| format!("no round trip in {}", outcome.stdout))
}

/// A steady exchange: numbered datagrams, each answered; and a new TCP connection every tenth time.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<Result<Tally>>>,
}

/// What became of a [`Stream`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Datagrams and connections.
    pub sent: u64,
    /// Those without an answer.
    pub lost: u64,
}

impl Stream {
    /// Begins; `interval` between datagrams.
    pub fn start(from: &Machine, to: &str, port: u16, interval: Duration) -> Result<Stream> {
        let address = socket_address(to, port)?;
        let stop = Arc::new(AtomicBool::new(false));
        let ended = stop.clone();
        let thread = from.spawn_inside(move || exchange(address, interval, &ended))?;
        Ok(Stream { stop, thread })
    }

    /// Ends it and counts.
    pub fn finish(self) -> Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(tally) => tally?,
            Err(_) => bail!("the stream's thread ended by a panic"),
        }
    }
}

fn exchange(address: SocketAddr, interval: Duration, ended: &AtomicBool) -> Result<Tally> {
    let socket = UdpSocket::bind((unspecified(address), 0))?;
    socket.connect(address)?;
    let mut tally = Tally::default();
    while !ended.load(Ordering::Relaxed) {
        tally.sent += 1;
        if !answered(&socket, tally.sent) {
            tally.lost += 1;
        }
        if tally.sent.is_multiple_of(10) {
            tally.sent += 1;
            if TcpStream::connect_timeout(&address, stretched(REPLY_PATIENCE)).is_err() {
                tally.lost += 1;
            }
        }
        std::thread::sleep(interval);
    }
    Ok(tally)
}

fn answered(socket: &UdpSocket, number: u64) -> bool {
    let deadline = Instant::now() + stretched(REPLY_PATIENCE);
    if socket.send(&number.to_be_bytes()).is_err() {
        return false;
    }
    let mut buffer = [0; 64];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || socket.set_read_timeout(Some(left)).is_err() {
            return false;
        }
        match socket.recv(&mut buffer) {
            Ok(size) if size >= 8 && buffer[..8] == number.to_be_bytes() => return true,
            Ok(_) => {}
            // An ICMP error is a loss at once.
            Err(_) => return false,
        }
    }
}

/// Sends this many bytes over one TCP connection; an error unless all of them arrive within `patience`.
pub fn send_bulk(
    from: &Machine,
    to: (&Machine, &str),
    bytes: usize,
    patience: Duration,
) -> Result<()> {
    let (machine, address) = to;
    let patience = stretched(patience);
    let listener = machine.inside(|| TcpListener::bind(("::", 0)))??;
    let address = socket_address(address, listener.local_addr()?.port())?;
    listener.set_nonblocking(true)?;
    let receiver = std::thread::spawn(move || receive_bulk(&listener, patience));
    from.inside(move || -> Result<()> {
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_write_timeout(Some(patience))?;
        stream.write_all(&vec![0x5a; bytes])?;
        Ok(())
    })??;
    let arrived = receiver
        .join()
        .map_err(|_| anyhow::anyhow!("the receiving thread ended by a panic"))??;
    if arrived != bytes {
        bail!("{arrived} of {bytes} bytes to {address} arrived within {patience:?}");
    }
    Ok(())
}

fn receive_bulk(listener: &TcpListener, patience: Duration) -> Result<usize> {
    let deadline = Instant::now() + patience;
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => return Err(error).context("nobody connected"),
        }
    };
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(patience))?;
    let (mut buffer, mut arrived) = (vec![0; 65_536], 0);
    while Instant::now() < deadline {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(size) => arrived += size,
        }
    }
    Ok(arrived)
}
