//! The images of a cluster, by name.

use crate::cluster::image::Image;
use crate::cluster::pki::Authority;
use crate::machine::run_here;
use crate::programs;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// What the kubelets' sandboxes run.
pub const PAUSE: &str = "registry.k8s.io/pause:3.10.2";
/// Upstream's test image: clients and servers of all kinds (`agnhost --help`).
pub const AGNHOST: &str = "registry.k8s.io/e2e-test-images/agnhost:2.63.0";
/// CoreDNS, built here.
pub const COREDNS: &str = "registry.k8s.io/coredns/coredns:e2e";
/// A shell with the usual small programs.
pub const BUSYBOX: &str = "registry.k8s.io/e2e-test-images/busybox:1.37.0-1";

/// The second image of upstream's DNS tests; agnhost's content does for it.
const DNS_TESTING: &str = "registry.k8s.io/e2e-test-images/glibc-dns-testing:2.0.0";

/// All of them, made where they are missing. `tools` holds what was built of Kubernetes.
pub fn make_all(tools: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    let images = [
        pause(folder)?,
        coredns(tools),
        busybox()?,
        agnhost(tools, folder)?,
    ];
    images.iter().map(|image| image.archive(folder)).collect()
}

/// Ours, with what the Dockerfile puts into it: the static agent, the plugins that it installs, nft and iptables.
pub fn slash32(folder: &Path, version: &str) -> Result<PathBuf> {
    let binaries = programs::binaries()?;
    let mut image = Image::new(
        "slash32-agent",
        &[&format!("docker.io/slash32/slash32-agent:{version}")],
        &["/usr/local/bin/slash32-agent"],
        &["run"],
    )
    .file(
        "/usr/local/bin/slash32-agent",
        &binaries.join("slash32-agent"),
    );
    for plugin in ["slash32", "slash32-ipam"] {
        image = image.file(
            &format!("/opt/slash32/bin/{plugin}"),
            &binaries.join(plugin),
        );
    }
    image = image.program("nft")?.program("sleep")?;
    for (program, kind) in [
        ("xtables-nft-multi", "nft"),
        ("xtables-legacy-multi", "legacy"),
    ] {
        image = image.program(program)?;
        for command in ["iptables", "ip6tables"] {
            for suffix in ["", "-save", "-restore"] {
                image = image.link(&format!("/usr/sbin/{command}-{kind}{suffix}"), program);
                if kind == "nft" {
                    image = image.link(&format!("/usr/sbin/{command}{suffix}"), program);
                }
            }
        }
    }
    // Matches and targets of iptables are libraries that it loads by name.
    let nft = run_here(&["ldd", "/usr/sbin/nft"])?.stdout;
    let library = nft
        .split_whitespace()
        .find(|word| word.contains("/libmnl.so"));
    let folder_of = |path: &str| Path::new(path).parent().map(Path::to_path_buf);
    let extensions = library
        .and_then(folder_of)
        .context("nft without libmnl")?
        .join("xtables");
    for entry in std::fs::read_dir(&extensions).with_context(|| extensions.display().to_string())? {
        let path = entry?.path();
        image = image.file(&path.to_string_lossy(), &path);
    }
    image.archive(folder)
}

/// A static program of a few lines that waits to be ended.
fn pause(folder: &Path) -> Result<Image> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/pause.c");
    let program = folder.join("pause");
    let is_fresh = |program: &Path| -> Option<bool> {
        Some(program.metadata().ok()?.modified().ok()? > source.metadata().ok()?.modified().ok()?)
    };
    if is_fresh(&program) != Some(true) {
        std::fs::create_dir_all(folder)?;
        let part = folder.join(format!(".pause-{}", std::process::id()));
        run_here(&[
            "cc",
            "-Os",
            "-static",
            "-o",
            &part.to_string_lossy(),
            &source.to_string_lossy(),
        ])
        .context("compile the pause container's program")?;
        std::fs::rename(part, &program)?;
    }
    Ok(Image::new("pause", &[PAUSE], &["/pause"], &[]).file("/pause", &program))
}

fn coredns(tools: &Path) -> Image {
    Image::new("coredns", &[COREDNS], &["/coredns"], &[]).file("/coredns", &tools.join("coredns"))
}

/// Its shell prefers its own applets to PATH, so it is no base for others.
fn busybox() -> Result<Image> {
    let mut image = Image::new("busybox", &[BUSYBOX, "busybox:e2e"], &[], &["/bin/sh"])
        .file("/bin/busybox", Path::new("/bin/busybox"));
    let applets = run_here(&["/bin/busybox", "--list"]).context(
        "busybox-static is not on this machine: scripts/install-deps.sh e2e installs it",
    )?;
    for applet in applets.stdout.lines().filter(|name| *name != "busybox") {
        image = image.link(&format!("/bin/{applet}"), "busybox");
    }
    Ok(image)
}

/// Upstream's has more than its program: what tests run in it by name, certificates of its TLS servers, a folder for uploads.
fn agnhost(tools: &Path, folder: &Path) -> Result<Image> {
    let mut image = Image::new(
        "agnhost",
        &[AGNHOST, DNS_TESTING],
        &["/agnhost"],
        &["pause"],
    )
    .file("/agnhost", &tools.join("agnhost"));
    const SMALL: [&str; 46] = [
        "awk", "basename", "cat", "chmod", "cp", "cut", "date", "dirname", "du", "echo", "env",
        "expr", "false", "find", "grep", "head", "hostname", "id", "kill", "ln", "ls", "mkdir",
        "mktemp", "mv", "nslookup", "ping", "printf", "ps", "pwd", "rm", "sed", "seq", "sleep",
        "sort", "stat", "tail", "tar", "tee", "test", "timeout", "top", "touch", "tr", "true",
        "wc", "xargs",
    ];
    image = image.file("/bin/busybox", Path::new("/bin/busybox"));
    for applet in SMALL {
        image = image.link(&format!("/bin/{applet}"), "busybox");
    }
    // Not busybox's: its shell would run its own nc, and its wget crashes with -T.
    for program in [
        "bash",
        "curl",
        "wget",
        "nc.openbsd",
        "dig",
        "ip",
        "ss",
        "iperf",
        "getent",
        "conntrack",
    ] {
        image = image.program(program)?;
    }
    image = image
        .link("/bin/sh", "/usr/bin/bash")
        .link("/usr/bin/nc", "nc.openbsd")
        .folder("/uploads", 0o777);
    let pair = certificate_kept(folder)?;
    Ok(image
        .text("/localhost.crt", &pair.0)
        .text("/localhost.key", &pair.1))
}

/// Kept, so that the image stays the same from run to run.
fn certificate_kept(folder: &Path) -> Result<(String, String)> {
    std::fs::create_dir_all(folder)?;
    let (crt, key) = (folder.join("localhost.crt"), folder.join("localhost.key"));
    if !key.exists() || !crt.exists() {
        let pair = Authority::new()?.issue("localhost", None, &["localhost", "127.0.0.1"])?;
        std::fs::write(&crt, pair.certificate)?;
        std::fs::write(&key, pair.key)?;
    }
    Ok((std::fs::read_to_string(crt)?, std::fs::read_to_string(key)?))
}
