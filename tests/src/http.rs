//! Just enough HTTP to read what the agent tells about itself, and to speak to what listens without TLS.

use crate::machine::{Machine, PATIENCE};
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::TcpStream;

/// Status and body of one GET, asked for on `machine`.
pub fn get(machine: &Machine, address: &str, path: &str) -> Result<(u16, String)> {
    send(machine, address, "GET", path, "text/plain", "")
}

/// Status and body of one POST of JSON.
pub fn post(machine: &Machine, address: &str, path: &str, body: &str) -> Result<(u16, String)> {
    send(machine, address, "POST", path, "application/json", body)
}

/// One request with a body of type `kind`. HTTP/1.0, so that the answer ends with the connection.
pub fn send(
    machine: &Machine,
    address: &str,
    method: &str,
    path: &str,
    kind: &str,
    body: &str,
) -> Result<(u16, String)> {
    let address = address.to_owned();
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let text = machine.inside(move || -> Result<String> {
        let mut stream =
            TcpStream::connect(&address).with_context(|| format!("connect to {address}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })??;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .with_context(|| format!("no HTTP answer: {text:?}"))?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok((
        status.with_context(|| format!("no HTTP status: {head:?}"))?,
        body.to_owned(),
    ))
}
