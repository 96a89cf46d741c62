//! The plugins put into the runtime's folder by the agent, while runtimes execute them, and taken away again. The folders
//! stand in for the host's /opt/cni/bin and for the image's /opt/slash32/bin.

use anyhow::{Context, Result, bail, ensure};
use slash32_tests::judge::{expect_complaint, kernel_state};
use slash32_tests::lab::Lab;
use slash32_tests::machine::{Machine, Outcome, PATIENCE, finish};
use slash32_tests::node::Node;
use slash32_tests::{suite, wait};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// The runtime's folder of plugins and the image's, on the node.
const BIN: &str = "/etc/slash32/cni/bin";
const IMAGE: &str = "/etc/slash32/image";
const PLUGINS: [&str; 2] = ["slash32", "slash32-ipam"];
/// How often the plugins are replaced while others execute them.
const ROUNDS: usize = 25;

fn main() -> ExitCode {
    suite::main(&[
        (
            "the_conflist_waits_for_a_plugin_that_works",
            the_conflist_waits_for_a_plugin_that_works,
        ),
        (
            "equal_plugins_keep_their_inode_and_others_are_replaced",
            equal_plugins_keep_their_inode_and_others_are_replaced,
        ),
        (
            "no_call_fails_while_the_plugin_is_replaced",
            no_call_fails_while_the_plugin_is_replaced,
        ),
        (
            "an_installation_killed_at_any_step_leaves_nothing_half",
            an_installation_killed_at_any_step_leaves_nothing_half,
        ),
        (
            "a_folder_that_takes_nothing_is_told_and_an_older_plugin_serves_on",
            a_folder_that_takes_nothing_is_told_and_an_older_plugin_serves_on,
        ),
        (
            "of_all_capabilities_net_admin_is_enough",
            of_all_capabilities_net_admin_is_enough,
        ),
        (
            "uninstall_takes_the_plugins_last_and_only_ours",
            uninstall_takes_the_plugins_last_and_only_ours,
        ),
        (
            "a_pod_cut_off_by_uninstall_can_still_be_ended",
            a_pod_cut_off_by_uninstall_can_still_be_ended,
        ),
        (
            "the_settings_in_the_manifests_are_settings_of_the_agent",
            the_settings_in_the_manifests_are_settings_of_the_agent,
        ),
    ])
}

// ===== a node with an image =====

/// A lab of one node, whose image holds the plugins under test.
fn lab(name: &str) -> Result<Lab> {
    let lab = Lab::flat(name, 1)?;
    let image = lab.nodes[0].machine.folder(IMAGE);
    std::fs::create_dir_all(&image)?;
    for plugin in PLUGINS {
        std::fs::copy(lab.binaries()?.join(plugin), image.join(plugin))?;
    }
    Ok(lab)
}

/// Another build of the same plugin: the loader ignores what stands behind an ELF file's end.
fn change_image(lab: &Lab, mark: &str) -> Result<()> {
    for plugin in PLUGINS {
        let mut program = std::fs::read(lab.binaries()?.join(plugin))?;
        program.extend_from_slice(mark.as_bytes());
        let path = lab.nodes[0].machine.folder(IMAGE).join(plugin);
        std::fs::write(path, program)?;
    }
    Ok(())
}

fn bin(node: &Node, name: &str) -> PathBuf {
    node.machine.folder(BIN).join(name)
}

const ONCE: [&str; 5] = [
    "run",
    "--once",
    "--nodes-file=/etc/slash32/nodes.yaml",
    "--cni-bin-dir=/etc/slash32/cni/bin",
    "--plugin-dir=/etc/slash32/image",
];
const UNINSTALL: [&str; 3] = [
    "uninstall",
    "--cni-bin-dir=/etc/slash32/cni/bin",
    "--plugin-dir=/etc/slash32/image",
];

/// One pass of the agent.
fn once(node: &Node) -> Result<Outcome> {
    node.run_agent(&[&ONCE[..], &["--node-name", &node.name]].concat())
}

/// One pass that must converge.
fn converge(node: &Node) -> Result<()> {
    let outcome = once(node)?;
    ensure!(outcome.status.success(), "{}", outcome.stderr);
    Ok(())
}

/// Each plugin is the image's, whole and executable, and nothing else is in the folder.
fn expect_installed(node: &Node) -> Result<()> {
    for plugin in PLUGINS {
        let installed = std::fs::read(bin(node, plugin))?;
        let image = std::fs::read(node.machine.folder(IMAGE).join(plugin))?;
        ensure!(installed == image, "{plugin} is another than the image's");
        let mode = std::fs::metadata(bin(node, plugin))?.permissions().mode();
        ensure!(mode & 0o7777 == 0o755, "{plugin} has mode {mode:o}");
    }
    expect_names(node, &PLUGINS)
}

fn expect_names(node: &Node, names: &[&str]) -> Result<()> {
    let mut found: Vec<String> = std::fs::read_dir(bin(node, ""))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    found.sort();
    ensure!(found == names, "in the folder of plugins: {found:?}");
    Ok(())
}

fn inodes(node: &Node) -> Result<Vec<(u64, i64, i64)>> {
    let plugins = PLUGINS.iter();
    plugins
        .map(|plugin| {
            let found = std::fs::metadata(bin(node, plugin))?;
            Ok((found.ino(), found.ctime(), found.ctime_nsec()))
        })
        .collect()
}

/// The installed plugin, as a runtime calls it.
fn call(node: &Node, verb: &str, id: &str, netns: &Path) -> Result<Outcome> {
    let mut command = node.machine.command(format!("{BIN}/slash32"));
    command
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", id)
        .env("CNI_NETNS", netns)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", BIN);
    let request = node.request()?.to_string();
    finish(command, request.as_bytes(), PATIENCE)
}

// ===== installing =====

fn the_conflist_waits_for_a_plugin_that_works() -> Result<()> {
    let lab = lab("n11")?;
    let node = &lab.nodes[0];
    let source = node.machine.folder(IMAGE).join("slash32");
    let aside = source.with_extension("aside");
    std::fs::rename(&source, &aside)?;
    let settings: Vec<&str> = ONCE[3..].to_vec();
    let agent = node.spawn_agent_with(&settings)?;
    node.wait_told("problem: plugin_missing")?;
    let (status, told) = node.ask_agent("/readyz")?;
    ensure!(
        status == 503 && told.contains("/etc/slash32/image/slash32"),
        "{told}"
    );
    ensure!(!node.conflist_path().exists() && !bin(node, "slash32").exists());
    // The rest of the node is put right all the same.
    wait::until("the table is laid", Duration::from_secs(10), || {
        Ok(kernel_state(node)?.contains("table inet slash32"))
    })?;
    std::fs::rename(&aside, &source)?;
    node.wait_ready()?;
    expect_installed(node)?;
    drop(agent);
    Ok(())
}

fn equal_plugins_keep_their_inode_and_others_are_replaced() -> Result<()> {
    let lab = lab("n12")?;
    let node = &lab.nodes[0];
    converge(node)?;
    expect_installed(node)?;
    let first = inodes(node)?;
    converge(node)?;
    ensure!(inodes(node)? == first, "equal plugins were written again");
    change_image(&lab, "another build")?;
    converge(node)?;
    expect_installed(node)?;
    let second = inodes(node)?;
    ensure!(
        first
            .iter()
            .zip(&second)
            .all(|(one, other)| one.0 != other.0),
        "written in place: {first:?} {second:?}"
    );
    // Without the setting the folder is none of the agent's business.
    std::fs::write(bin(node, "slash32"), "somebody's")?;
    let outcome = node.run_agent(&[&ONCE[..3], &["--node-name", &node.name]].concat())?;
    ensure!(outcome.status.success(), "{}", outcome.stderr);
    ensure!(std::fs::read(bin(node, "slash32"))? == b"somebody's");
    Ok(())
}

fn no_call_fails_while_the_plugin_is_replaced() -> Result<()> {
    let lab = lab("n13")?;
    let node = &lab.nodes[0];
    converge(node)?;
    let pod = Machine::new("n13-pod")?;
    let (done, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    let replaced = std::thread::scope(|scope| -> Result<usize> {
        let versions = scope.spawn(|| until(&done, &calls, || version(node)));
        let attachments = scope.spawn(|| until(&done, &calls, || add_and_del(node, &pod)));
        let replaced = (0..ROUNDS).try_fold(0, |replaced, round| -> Result<usize> {
            let before = inodes(node)?;
            change_image(&lab, &format!("build {round}"))?;
            converge(node)?;
            let called = calls.load(Ordering::Relaxed);
            // Each build is executed some times before the next one comes.
            while calls.load(Ordering::Relaxed) < called + 4
                && !versions.is_finished()
                && !attachments.is_finished()
            {
                std::thread::yield_now();
            }
            Ok(replaced + usize::from(inodes(node)? != before))
        });
        done.store(true, Ordering::Relaxed);
        for caller in [versions, attachments] {
            match caller.join() {
                Ok(called) => called?,
                Err(_) => bail!("a caller ended by a panic"),
            }
        }
        replaced
    })?;
    let calls = calls.load(Ordering::Relaxed);
    eprintln!("{calls} calls beside {replaced} replacements");
    ensure!(
        replaced == ROUNDS && calls >= 4 * ROUNDS,
        "{calls} {replaced}"
    );
    expect_installed(node)?;
    node.expect_clean()
}

fn until(done: &AtomicBool, calls: &AtomicUsize, work: impl Fn() -> Result<()>) -> Result<()> {
    while !done.load(Ordering::Relaxed) {
        work()?;
        calls.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn version(node: &Node) -> Result<()> {
    let outcome = call(node, "VERSION", "", Path::new(""))?;
    ensure!(
        outcome.status.success() && outcome.stdout.contains("supportedVersions"),
        "{outcome:?}"
    );
    Ok(())
}

fn add_and_del(node: &Node, pod: &Machine) -> Result<()> {
    for verb in ["ADD", "DEL"] {
        let outcome = call(node, verb, "looped", &pod.netns())?;
        ensure!(outcome.status.success(), "{verb}: {outcome:?}");
    }
    Ok(())
}

fn an_installation_killed_at_any_step_leaves_nothing_half() -> Result<()> {
    let lab = lab("n14")?;
    let node = &lab.nodes[0];
    let (mut kills, mut halves) = (0, 0);
    // A folder without plugins, then one with an older build.
    for older in [false, true] {
        for call in ["copy_file_range", "fchmod", "fsync", "renameat"] {
            for position in 1..=PLUGINS.len() {
                let _ = std::fs::remove_dir_all(bin(node, ""));
                change_image(&lab, "the older build")?;
                if older {
                    converge(node)?;
                }
                let old = read_plugins(node);
                change_image(&lab, &format!("{call} {position}"))?;
                kill_at(node, call, position)?;
                kills += 1;
                halves += usize::from(leftovers(node) > 0);
                for ((plugin, old), now) in PLUGINS.iter().zip(&old).zip(read_plugins(node)) {
                    let new = std::fs::read(node.machine.folder(IMAGE).join(plugin))?;
                    ensure!(
                        now == *old || now.as_deref() == Some(&new),
                        "{plugin} is half after a kill before {call} {position}"
                    );
                }
                converge(node)?;
                expect_installed(node)?;
            }
        }
    }
    eprintln!("{kills} kills, {halves} of them left a temporary file for the next pass to remove");
    ensure!(halves > 0, "no kill hit an installation under way");
    Ok(())
}

fn read_plugins(node: &Node) -> Vec<Option<Vec<u8>>> {
    let plugins = PLUGINS.iter();
    plugins
        .map(|plugin| std::fs::read(bin(node, plugin)).ok())
        .collect()
}

fn leftovers(node: &Node) -> usize {
    let entries = std::fs::read_dir(bin(node, "")).into_iter().flatten();
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with('.'))
        .count()
}

/// A pass that SIGKILL ends before the nth such system call: installing is the first that a pass does.
fn kill_at(node: &Node, call: &str, position: usize) -> Result<()> {
    let mut command = node.machine.command("strace");
    command
        .args(["-f", "-qq", "-o", "/dev/null", "-e"])
        .arg(format!("trace={call}"))
        .arg("-e")
        .arg(format!("inject={call}:signal=KILL:when={position}"))
        .arg(slash32_tests::programs::binaries()?.join("slash32-agent"))
        .args(ONCE)
        .args(["--node-name", &node.name]);
    let outcome = finish(command, b"", PATIENCE)?;
    // strace ends as its program did.
    ensure!(
        outcome.status.signal() == Some(9),
        "{call} {position} was not met: {outcome:?}"
    );
    Ok(())
}

fn a_folder_that_takes_nothing_is_told_and_an_older_plugin_serves_on() -> Result<()> {
    let lab = lab("n15")?;
    let node = &lab.nodes[0];
    let agent = lab.binaries()?.join("slash32-agent");
    // Mounts are this command's own.
    let with_folder = |mount: &str| -> Result<Outcome> {
        let script = format!(
            "set -e; mkdir -p {BIN}; {mount}; status=0; \"$@\" || status=$?; ls -A {BIN} | xargs; exit $status"
        );
        let mut command = node.machine.command("sh");
        command.args(["-c", &script, "sh"]).arg(&agent).args(ONCE);
        command.args(["--node-name", &node.name]);
        finish(command, b"", PATIENCE)
    };
    let read_only = format!("mount --bind {BIN} {BIN}; mount -o remount,bind,ro {BIN}");
    let full = format!("mount -t tmpfs -o size=64k tmpfs {BIN}");
    let never_right = |outcome: &Outcome| -> Result<()> {
        ensure!(!node.conflist_path().exists(), "the conflist is there");
        ensure!(outcome.stdout.trim().is_empty(), "left: {}", outcome.stdout);
        Ok(())
    };
    let outcome = with_folder(&read_only)?;
    expect_complaint(
        &outcome,
        1,
        &["plugin_missing", BIN, "Read-only", "mount it writable"],
    )?;
    never_right(&outcome)?;
    let outcome = with_folder(&full)?;
    expect_complaint(&outcome, 1, &["plugin_missing", BIN, "free space there"])?;
    never_right(&outcome)?;
    // An older plugin that answers.
    converge(node)?;
    std::fs::remove_file(node.conflist_path())?;
    change_image(&lab, "newer")?;
    let outcome = with_folder(&read_only)?;
    expect_complaint(&outcome, 1, &["plugin_outdated", "mount it writable"])?;
    ensure!(
        node.conflist_path().is_file(),
        "an older plugin serves pods too"
    );
    // The right one: nothing needs to be written.
    converge(node)?;
    let outcome = with_folder(&read_only)?;
    ensure!(outcome.status.success(), "{}", outcome.stderr);
    Ok(())
}

/// What the DaemonSet gives it: root without root's other powers.
fn of_all_capabilities_net_admin_is_enough() -> Result<()> {
    let lab = lab("n16")?;
    let node = &lab.nodes[0];
    let run = |arguments: &[&str]| -> Result<Outcome> {
        let mut command = node.machine.command("setpriv");
        command
            .args([
                "--bounding-set=-all,+net_admin",
                "--inh-caps=-all",
                "--no-new-privs",
            ])
            .arg(lab.binaries()?.join("slash32-agent"))
            .args(arguments)
            .args(["--node-name", &node.name]);
        finish(command, b"", PATIENCE)
    };
    let outcome = run(&ONCE)?;
    ensure!(outcome.status.success(), "{}", outcome.stderr);
    expect_installed(node)?;
    ensure!(
        node.conflist_path().is_file() && kernel_state(node)?.contains("net.ipv4.ip_forward = 1")
    );
    let pod = node.add_pod_with_ports("a", &[(8080, 80, "tcp")])?;
    // The records of the plugin, which has all powers, are read and obeyed.
    node.machine
        .run(&["nft", "delete", "table", "inet", "slash32"])?;
    let outcome = run(&ONCE)?;
    ensure!(outcome.status.success(), "{}", outcome.stderr);
    ensure!(kernel_state(node)?.contains("8080"));
    pod.del()?;
    let outcome = run(&UNINSTALL)?;
    ensure!(
        outcome.status.success(),
        "{}{}",
        outcome.stdout,
        outcome.stderr
    );
    expect_names(node, &[])
}

// ===== uninstalling =====

fn uninstall_takes_the_plugins_last_and_only_ours() -> Result<()> {
    let lab = lab("n17")?;
    let node = &lab.nodes[0];
    converge(node)?;
    let pod = node.add_pod("a")?;
    std::fs::write(bin(node, "bridge"), "a neighbour")?;
    let before = (kernel_state(node)?, inodes(node)?);
    let refused = node.run_agent(&UNINSTALL)?;
    expect_complaint(&refused, 1, &["1 pod interface", "nothing was removed"])?;
    ensure!((kernel_state(node)?, inodes(node)?) == before && node.conflist_path().is_file());
    pod.del()?;
    // Of another version, nobody knows whose it is.
    change_image(&lab, "another version")?;
    let outcome = node.run_agent(&UNINSTALL)?;
    expect_complaint(
        &outcome,
        1,
        &[
            "plugin /etc/slash32/cni/bin/slash32: left alone",
            "/etc/slash32/image/slash32",
            "by hand",
        ],
    )?;
    expect_names(node, &["bridge", "slash32", "slash32-ipam"])?;
    change_image(&lab, "")?;
    converge(node)?;
    let done = node.run_agent(&UNINSTALL)?;
    ensure!(done.status.success(), "{}{}", done.stdout, done.stderr);
    let lines: Vec<&str> = done.stdout.lines().collect();
    let position = |text: &str| lines.iter().position(|line| line.contains(text));
    ensure!(
        position("CNI configuration") == Some(0)
            && position("plugin") == Some(lines.len() - PLUGINS.len()),
        "{}",
        done.stdout
    );
    expect_names(node, &["bridge"])?;
    expect_nothing_left(node)?;
    let again = node.run_agent(&UNINSTALL)?;
    ensure!(again.stdout.contains("nothing of Slash32"), "{again:?}");
    Ok(())
}

fn expect_nothing_left(node: &Node) -> Result<()> {
    node.expect_clean()?;
    let state = kernel_state(node)?;
    ensure!(
        node.routes()?.is_empty() && !state.contains("slash32"),
        "{state}"
    );
    for folder in ["/etc/cni/net.d", "/run/slash32"] {
        let left = std::fs::read_dir(node.machine.folder(folder))?.count();
        ensure!(left == 0, "{left} entries in {folder}");
    }
    Ok(())
}

fn a_pod_cut_off_by_uninstall_can_still_be_ended() -> Result<()> {
    let lab = lab("n18")?;
    let node = &lab.nodes[0];
    converge(node)?;
    let pod = Machine::new("n18-pod")?;
    let added = call(node, "ADD", "left", &pod.netns())?;
    ensure!(added.status.success(), "{added:?}");
    // The runtime keeps the request; the conflist will be gone.
    let request = node.request()?.to_string();
    let forced = [&UNINSTALL[..], &["--force"]].concat();
    // However often: the runtime has not ended the pod yet.
    for _ in 0..2 {
        let outcome = node.run_agent(&forced)?;
        expect_complaint(&outcome, 1, &["plugins left in place", "1 record"])?;
        ensure!(!node.conflist_path().exists() && node.routes()?.is_empty());
        let state = kernel_state(node)?;
        ensure!(
            !state.contains("s32") && !state.contains("slash32"),
            "{state}"
        );
        expect_names(node, &PLUGINS)?;
    }
    let mut command = node.machine.command(format!("{BIN}/slash32"));
    command
        .env("CNI_COMMAND", "DEL")
        .env("CNI_CONTAINERID", "left")
        .env("CNI_NETNS", pod.netns())
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", BIN);
    let ended = finish(command, request.as_bytes(), PATIENCE)?;
    ensure!(ended.status.success(), "{ended:?}");
    let done = node.run_agent(&UNINSTALL)?;
    ensure!(done.status.success(), "{}{}", done.stdout, done.stderr);
    expect_names(node, &[])?;
    expect_nothing_left(node)
}

// ===== manifests =====

/// Keys and values: a typing error would keep every node of a cluster from its network.
fn the_settings_in_the_manifests_are_settings_of_the_agent() -> Result<()> {
    let lab = lab("n19")?;
    let node = &lab.nodes[0];
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
    let map = std::fs::read_to_string(manifests.join("base/configmap.yaml"))?;
    let (_, settings) = map
        .split_once("  agent.yaml: |\n")
        .context("the ConfigMap has no agent.yaml")?;
    ensure!(settings.lines().all(|line| line.starts_with("    ")));
    let file = node.machine.folder("/etc/slash32").join("agent.yaml");
    std::fs::write(&file, settings.replace("\n    ", "\n").trim_start())?;
    let mut checked = 0;
    for overlay in std::fs::read_dir(manifests.join("overlays"))? {
        let path = overlay?.path().join("kustomization.yaml");
        let text = std::fs::read_to_string(&path)?;
        let mut command = node.agent_command()?;
        command.args(["uninstall", "--config", "/etc/slash32/agent.yaml"]);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for pair in lines.windows(2) {
            if let (Some(name), Some(value)) = (
                pair[0].strip_prefix("- name: SLASH32_"),
                pair[1].strip_prefix("value: "),
            ) {
                let name = format!("SLASH32_{name}");
                let help = node.run_agent(&["run", "--help"])?.stdout;
                ensure!(
                    help.contains(&format!("[env: {name}=")),
                    "no setting {name}"
                );
                command.env(name, value);
                checked += 1;
            }
        }
        let outcome = finish(command, b"", PATIENCE)?;
        ensure!(
            outcome.status.success(),
            "{}: {}",
            path.display(),
            outcome.stderr
        );
    }
    ensure!(checked >= 4, "only {checked} variables were found");
    Ok(())
}
