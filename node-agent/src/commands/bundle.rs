//! `slash32-agent bundle`: one archive for a bug report. Everything that goes in is text, and goes through `redact` first;
//! files that hold credentials (kubeconfig, service account tokens, other plugins' configurations) are never read at all.

use super::format::{self, Format};
use super::paint::Paint;
use super::{doctor, status};
use crate::cli::BundleArgs;
use crate::look::{Look, agent, conflist};
use crate::settings::Settings;
use anyhow::Context;
use dataplane::netlink::Netlink;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

mod logs;
mod redact;

/// The folder inside the archive.
const FOLDER: &str = "slash32-bundle";

/// Gathers, redacts, writes.
pub(crate) fn run(settings: &Settings, args: &BundleArgs) -> anyhow::Result<ExitCode> {
    let look = Look::take(settings)?;
    let mut files = gather(settings, &look)?;
    files.extend(logs::read(args.log.as_deref()));
    let path = args
        .write
        .clone()
        .unwrap_or_else(|| format!("slash32-{}-{}.tar.gz", look.node_name, look.at_ms / 1000));
    write(&path, look.at_ms / 1000, &files).with_context(|| format!("write {path}"))?;
    format::print(&format!(
        "{path}: {} files; tokens, keys and passwords are left out, addresses and names of pods and nodes are in it\n",
        files.len()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// (name, text). What cannot be had says why in its place.
fn gather(settings: &Settings, look: &Look) -> anyhow::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    let mut add = |name: &str, text: String| files.push((name.to_owned(), text));
    add("version.txt", version());
    let effective = settings.effective();
    let lines = effective
        .iter()
        .map(|(key, value)| format!("{key}: {value}\n"));
    add("settings.txt", lines.collect());
    let told = status::tell(look, Format::Json, crate::look::OPERATIONS, Paint::PLAIN)?;
    add("status.json", told);
    let diagnosis = doctor::diagnose(settings, false)
        .and_then(|diagnosis| format::render(&diagnosis, Format::Json, Paint::PLAIN));
    add("doctor.json", or_why(diagnosis));
    add("records.json", json(&look.records));
    add("operations.json", json(&look.operations));
    add(
        "links.txt",
        look.links.iter().fold(String::new(), |mut text, link| {
            let _ = writeln!(text, "{link:?}");
            text
        }),
    );
    add(
        "addresses.txt",
        look.facts
            .addresses
            .iter()
            .fold(String::new(), |mut text, (index, address)| {
                let _ = writeln!(text, "{} {address}", look.link_name(*index));
                text
            }),
    );
    add(
        "routes.txt",
        look.routes.iter().fold(String::new(), |mut text, route| {
            let _ = writeln!(text, "{} proto {}", route.spec, route.protocol);
            text
        }),
    );
    add("rules.txt", or_why(list_rules()));
    let nft = |arguments: &[&str]| {
        or_why(dataplane::nft::list(&settings.nft_program, arguments).map_err(Into::into))
    };
    add(
        "nftables-slash32.txt",
        nft(&["list", "table", "inet", "slash32"]),
    );
    add("nftables-chains.txt", nft(&["list", "chains"]));
    if let Some(conflist) = &look.conflist {
        add("conflist.json", conflist.text.clone());
    }
    add(
        "cni-folder.txt",
        or_why(list_conf_files(&settings.cni_conf_dir)),
    );
    for path in ["/readyz", "/metrics"] {
        let text = match settings.listen {
            Some(listen) => agent::get(listen, path).unwrap_or_else(|error| error),
            None => "the setting listen is empty".to_owned(),
        };
        add(&format!("agent{}.txt", path.replace('/', "-")), text);
    }
    Ok(files)
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|error| error.to_string())
}

fn or_why(text: anyhow::Result<String>) -> String {
    text.unwrap_or_else(|error| format!("not to be had: {error:#}\n"))
}

fn version() -> String {
    let kernel = std::fs::read_to_string("/proc/version").unwrap_or_default();
    let system = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    format!(
        "slash32-agent {}\n{kernel}{system}",
        env!("CARGO_PKG_VERSION")
    )
}

fn list_rules() -> anyhow::Result<String> {
    let rules = Netlink::open()?.list_rules()?;
    let line = |rule: &dataplane::rule::RuleInfo| {
        format!("{} {rule}\n", if rule.v6 { "ipv6" } else { "ipv4" })
    };
    Ok(rules.iter().map(line).collect())
}

/// Names and plugin types only: other plugins keep credentials in theirs.
fn list_conf_files(folder: &Path) -> anyhow::Result<String> {
    let files = conflist::list(folder).with_context(|| format!("read {}", folder.display()))?;
    let line = |file: &conflist::ConfFile| match &file.types {
        Ok(types) => format!("{}: {}\n", file.name, types.join(", ")),
        Err(reason) => format!("{}: {reason}\n", file.name),
    };
    Ok(files.iter().map(line).collect())
}

fn write(path: &str, seconds: u64, files: &[(String, String)]) -> anyhow::Result<()> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for (name, text) in files {
        let text = redact::redact(text);
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(seconds);
        header.set_cksum();
        archive.append_data(&mut header, format!("{FOLDER}/{name}"), text.as_bytes())?;
    }
    archive.into_inner()?.finish()?.flush()?;
    Ok(())
}
