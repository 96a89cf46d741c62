//! Just enough HTTP to read what the agent tells about itself.

use crate::machine::{Machine, PATIENCE};
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::TcpStream;

/// Status and body of one GET, asked for on `machine`. HTTP/1.0, so that the answer ends with the connection.
pub fn get(machine: &Machine, address: &str, path: &str) -> Result<(u16, String)> {
    let (address, path) = (address.to_owned(), path.to_owned());
    let text = machine.inside(move || -> Result<String> {
        let mut stream =
            TcpStream::connect(&address).with_context(|| format!("connect to {address}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
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
