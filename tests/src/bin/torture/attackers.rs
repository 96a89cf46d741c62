//! The plugin and the agent as an attacker on the node sees them, who may write where root looks, or who gets a say in the
//! request: names with paths in them, links and pipes in the place of files, endless input, a careless umask.

use crate::scale::tell;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use slash32_tests::fault_sweep::whole_request;
use slash32_tests::machine::run_here;
use slash32_tests::programs;
use slash32_tests::site::{Reply, Site, dual_stack, files_below, patched};
use slash32_tests::suite::Test;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[Test] = &[
    (
        "names_with_paths_in_them_are_refused_and_make_no_file",
        names_with_paths,
    ),
    ("what_is_no_namespace_is_refused_at_once", no_namespaces),
    (
        "links_and_pipes_in_the_state_folder_are_never_followed",
        traps_in_the_state_folder,
    ),
    (
        "a_state_folder_that_others_can_write_is_refused",
        folder_of_others,
    ),
    (
        "with_any_umask_nobody_else_can_write_what_we_wrote",
        permissions,
    ),
    (
        "gigabytes_on_stdin_are_refused_in_little_memory",
        endless_stdin,
    ),
];

/// Every name below the folders that a plugin that was led astray would write to.
fn names_everywhere(site: &Site) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in [
        "/run/slash32",
        "/etc/cni/net.d",
        "/etc/slash32",
        "/var/lib/cni",
    ] {
        let files = files_below(&site.node.machine.folder(folder))?;
        names.extend(files.into_iter().map(|(path, _)| path));
    }
    for folder in ["/run", "/etc", "/tmp"] {
        for entry in std::fs::read_dir(folder)? {
            let name = entry?.path().display().to_string();
            // strace's output, and the lab's own folders.
            names.extend((!name.contains("slash32-test")).then_some(name));
        }
    }
    names.retain(|name| !name.ends_with("operations.jsonl"));
    Ok(names)
}

fn names_with_paths() -> Result<()> {
    let site = Site::new()?;
    let netns = site.netns()?;
    let path = netns.netns().display().to_string();
    let good = site.add("good", &dual_stack())?;
    let before = names_everywhere(&site)?;
    let hostile = [
        "../../../etc/cron.d/evil",
        "..",
        ".",
        "/etc/passwd",
        "a/b",
        "a\nb",
        "a\tb",
        "-rf",
        "$(reboot)",
        "a;reboot",
        "a\u{202e}b",
        "%s%n",
        "é",
    ];
    for name in hostile {
        for verb in ["ADD", "DEL", "CHECK"] {
            let request = slash32_tests::site::with_previous(&dual_stack(), &good.result);
            let request = if verb == "ADD" { dual_stack() } else { request };
            site.call_at(verb, name, &path, "eth0", &request)?
                .refused(4)
                .with_context(|| format!("{verb} of container {name:?}"))?;
            let network = patched(&request, json!({ "name": name }));
            site.call_at(verb, "c1", &path, "eth0", &network)?
                .refused(7)
                .with_context(|| format!("{verb} in network {name:?}"))?;
        }
    }
    for name in [
        "../eth0",
        "eth0/..",
        ".",
        "..",
        "eth%d",
        "sixteen-bytes-xx",
        "a b",
    ] {
        site.call_at("ADD", "c1", &path, name, &dual_stack())?
            .refused(4)
            .with_context(|| format!("interface {name:?}"))?;
    }
    for plugin in ["../../../bin/true", "/bin/true", "..", "", "a/b"] {
        let request = patched(&dual_stack(), json!({"ipam": {"type": plugin}}));
        site.call_at("ADD", "c1", &path, "eth0", &request)?
            .failed()
            .with_context(|| format!("IPAM plugin {plugin:?}"))?;
    }
    for folder in ["relative", "../..", ""] {
        let request = patched(&dual_stack(), json!({ "stateDir": folder }));
        site.call_at("ADD", "c1", &path, "eth0", &request)?
            .refused(7)?;
    }
    ensure!(before == names_everywhere(&site)?, "a file came or went");
    Reply::read(good.call("CHECK")?)?.silent()
}

fn no_namespaces() -> Result<()> {
    let site = Site::new()?;
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name).display().to_string();
    run_here(&["mkfifo", &at("pipe")])?;
    std::fs::write(at("file"), "no namespace")?;
    // A terabyte that takes no room.
    std::fs::File::create(at("huge"))?.set_len(1 << 40)?;
    symlink("/proc/self/ns/mnt", at("other kind"))?;
    symlink(at("loop"), at("loop"))?;
    symlink("/dev/zero", at("zero"))?;
    let before = site.snapshot()?;
    let mut slowest = Duration::ZERO;
    for path in [
        at("pipe"),
        at("file"),
        at("huge"),
        at("other kind"),
        at("loop"),
        at("zero"),
        at(""),
        at("absent"),
        "/dev/random".to_owned(),
        "/proc/1/mem".to_owned(),
        "relative/path".to_owned(),
        format!("/{}", "x".repeat(5000)),
    ] {
        let start = Instant::now();
        site.call_at("ADD", "c1", &path, "eth0", &dual_stack())?
            .refused(8)
            .with_context(|| path.clone())?;
        slowest = slowest.max(start.elapsed());
        // DEL needs none and does not look.
        site.call_at("DEL", "c1", &path, "eth0", &dual_stack())?
            .silent()
            .with_context(|| path.clone())?;
    }
    ensure!(site.snapshot()? == before);
    ensure!(slowest < Duration::from_secs(20), "{slowest:?}");
    Ok(())
}

/// Root looks into /run/slash32; here somebody could lay things there before it was made, or an administrator did.
fn traps_in_the_state_folder() -> Result<()> {
    let victim = tempfile::tempdir()?;
    let precious = victim.path().join("precious");
    let mut tried = 0;
    for place in [
        "attachments",
        "ipam",
        "operations.jsonl",
        "hostports.lock",
        "ipam/slash32",
        "ipam/slash32/lock",
        "ipam/slash32/addresses",
    ] {
        for trap in [
            "link to a file",
            "link to a folder",
            "dangling link",
            "pipe",
            "folder",
            "file",
        ] {
            let site = Site::new()?;
            let netns = site.netns()?;
            std::fs::write(&precious, "precious")?;
            run_here(&["chmod", "700", &site.state().display().to_string()])?;
            let path = site.state().join(place);
            let parent = path.parent().context("a parent")?;
            std::fs::create_dir_all(parent)?;
            run_here(&["chmod", "-R", "go-rwx", &site.state().display().to_string()])?;
            lay(trap, &path, victim.path())?;
            tried += 1;
            let told = || format!("{trap} in the place of {place}");
            for verb in ["ADD", "DEL"] {
                // All or nothing, and soon; which of the two is each trap's.
                let reply = site
                    .call(verb, "c1", &netns, &whole_request())
                    .with_context(told)?;
                if reply.outcome.status.success() {
                    continue;
                }
                let text = reply.failed()?;
                ensure!(
                    text.contains("slash32"),
                    "{}: {verb} does not say where: {text}",
                    told()
                );
            }
            ensure!(
                std::fs::read_to_string(&precious)? == "precious",
                "{}: somebody's file was written",
                told()
            );
            let names = std::fs::read_dir(victim.path())?.count();
            ensure!(names == 1, "{}: {names} names where there was one", told());
            let links = site.node.machine.read(&["ip", "-o", "link"])?;
            ensure!(!links.contains("s32"), "{}: {links}", told());
        }
    }
    tell(format_args!(
        "traps in the state folder: {tried}, none followed"
    ));
    Ok(())
}

fn lay(trap: &str, path: &Path, victim: &Path) -> Result<()> {
    match trap {
        "link to a file" => symlink(victim.join("precious"), path)?,
        "link to a folder" => symlink(victim, path)?,
        "dangling link" => symlink(victim.join("absent"), path)?,
        "pipe" => drop(run_here(&["mkfifo", &path.display().to_string()])?),
        "folder" => std::fs::create_dir(path)?,
        _ => std::fs::write(path, "")?,
    }
    Ok(())
}

fn folder_of_others() -> Result<()> {
    for (mode, owner) in [(0o777, 0), (0o770, 0), (0o702, 0), (0o700, 1234)] {
        let site = Site::new()?;
        let netns = site.netns()?;
        let state = site.state();
        std::fs::set_permissions(&state, PermissionsExt::from_mode(mode))?;
        if std::os::unix::fs::chown(&state, Some(owner), None).is_err() {
            // Only root can give a folder away; the other three are tried all the same.
            continue;
        }
        let told = || format!("mode {mode:o}, owner {owner}");
        let text = site
            .call("ADD", "c1", &netns, &dual_stack())?
            .failed()
            .with_context(told)?;
        ensure!(text.contains("/run/slash32"), "{}: {text}", told());
        ensure!(
            !site
                .node
                .machine
                .read(&["ip", "-o", "link"])?
                .contains("s32")
        );
        ensure!(files_below(&state)?.is_empty(), "{}", told());
    }
    Ok(())
}

fn permissions() -> Result<()> {
    let mut files = 0;
    for umask in ["0000", "0022", "0777"] {
        let site = Site::new()?;
        let netns = site.netns()?;
        slash32_tests::nodes_file::write(&site.node.nodes_file(), &[site.node.entry()])?;
        let folder = programs::binaries()?.display().to_string();
        let run = format!(
            "umask {umask}; {folder}/slash32-agent run --once --node-name {} --nodes-file /etc/slash32/nodes.yaml --mtu 1380",
            site.node.name
        );
        site.node.machine.run(&["sh", "-ec", &run])?;
        std::fs::write(
            site.node.machine.folder("/etc/slash32").join("request"),
            whole_request().to_string(),
        )?;
        let add = format!(
            "umask {umask}; CNI_COMMAND=ADD CNI_CONTAINERID=c1 CNI_NETNS={} CNI_IFNAME=eth0 CNI_PATH={folder} {folder}/slash32 < /etc/slash32/request",
            netns.netns().display()
        );
        site.node.machine.run(&["sh", "-ec", &add])?;
        let state = site.state();
        let mut paths = vec![state.clone()];
        while let Some(path) = paths.pop() {
            let meta = std::fs::symlink_metadata(&path)?;
            files += 1;
            if path != state {
                ensure!(
                    meta.mode() & 0o077 == 0 && meta.uid() == 0,
                    "umask {umask}: {} is {:o} of {}",
                    path.display(),
                    meta.mode(),
                    meta.uid()
                );
            }
            if meta.is_dir() {
                for entry in std::fs::read_dir(&path)? {
                    paths.push(entry?.path());
                }
            }
        }
        let conflist = std::fs::metadata(site.node.conflist_path())?;
        ensure!(
            conflist.mode() & 0o777 == 0o644,
            "umask {umask}: {:o}",
            conflist.mode()
        );
    }
    tell(format_args!(
        "permissions: {files} files and folders under three umasks, none for others"
    ));
    Ok(())
}

fn endless_stdin() -> Result<()> {
    let site = Site::new()?;
    let netns = site.netns()?;
    let folder = programs::binaries()?.display().to_string();
    let opening: Value = dual_stack();
    std::fs::write(
        site.node.machine.folder("/etc/slash32").join("opening"),
        opening.to_string().trim_end_matches('}').to_owned() + ",\"filler\":\"",
    )?;
    for verb in ["ADD", "DEL"] {
        // 64 MiB of address space: far less than what comes.
        let call = format!(
            "ulimit -v 65536; (cat /etc/slash32/opening; head -c 4294967296 /dev/zero | tr '\\0' x) 2>/dev/null | CNI_COMMAND={verb} CNI_CONTAINERID=c1 CNI_NETNS={} CNI_IFNAME=eth0 CNI_PATH={folder} {folder}/slash32",
            netns.netns().display()
        );
        let outcome = site.node.machine.try_run(&["sh", "-c", &call])?;
        let text = Reply::read(outcome)?.refused(5)?;
        ensure!(text.contains("stdin"), "{text}");
    }
    site.expect_clean()
}
