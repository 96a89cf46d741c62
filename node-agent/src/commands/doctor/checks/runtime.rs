//! The CNI configuration as the container runtime finds it, and the runtime's own traps.

use super::Verdict;
use crate::commands::doctor::finding::Finding;
use crate::commands::doctor::sight::Sight;

pub(super) fn check_conflist(sight: &Sight) -> Verdict {
    let files = sight.conf_files.as_ref().map_err(Clone::clone)?;
    let (folder, name) = (sight.conf_dir.display(), &sight.conf_name);
    let Some(at) = files.iter().position(|file| file.name == *name) else {
        return Ok(vec![Finding::error(
            format!("{folder}/{name} is not there: the node is not Ready, or uses another plugin"),
            "the agent writes it once its first pass has converged; 'agent' above says what it waits for",
        )]);
    };
    let mut findings = Vec::new();
    for file in &files[..at] {
        findings.push(match &file.types {
            Ok(types) if types.iter().any(|kind| kind == "multus") => Finding::note(
                format!("{folder}/{} comes first, of multus: it calls the configuration that it names as the cluster network", file.name),
                format!("see that its clusterNetwork or masterPlugin is {name}"),
            ),
            Ok(types) => Finding::error(
                format!("{folder}/{} ({}) comes before {name}: the runtime takes the first file by name, so new pods are not ours", file.name, types.join(", ")),
                format!("remove or rename {folder}/{}; pods that it made keep their network until they are made anew", file.name),
            ),
            Err(reason) => Finding::error(
                format!("{folder}/{} comes before {name} and cannot be read ({reason}): containerd then loads no network at all", file.name),
                format!("remove {folder}/{}", file.name),
            ),
        });
    }
    for file in &files[at + 1..] {
        findings.push(Finding::note(
            format!("{folder}/{} is another plugin's configuration; ours comes first", file.name),
            "remove it once no pod of that plugin runs here any more: it would count again if ours were gone",
        ));
    }
    Ok(findings)
}

pub(super) fn check_runtime(sight: &Sight) -> Verdict {
    let folder = sight.host.bin_dir.display();
    let Some(programs) = &sight.host.programs else {
        return Err(format!("{folder} cannot be seen from here"));
    };
    let mut findings = Vec::new();
    if !programs.contains("slash32") {
        findings.push(Finding::error(
            format!("the plugin slash32 is not in {folder}: every ADD fails"),
            "install it there (the agent's image does), or point the runtime's bin_dir to where it is",
        ));
    }
    let Some(runtime) = &sight.runtime else {
        return Ok(findings);
    };
    if runtime.name == "containerd" && !programs.contains("loopback") {
        findings.push(Finding::error(
            format!("containerd calls the plugin loopback for every pod, and it is not in {folder}"),
            "install the reference plugins (package containernetworking-plugins), or set use_internal_loopback = true in containerd's configuration",
        ));
    }
    if let Some(version) = &runtime.version
        && let Some(text) = trap(runtime.name, version)
    {
        findings.push(Finding::note(
            format!("{} {version}: {text}", runtime.name),
            "nothing has to be done; a newer one does it",
        ));
    }
    Ok(findings)
}

/// What this version does not do of what CNI 1.1 offers.
fn trap(runtime: &str, version: &str) -> Option<&'static str> {
    let mut parts = version
        .split(['.', '-', '+'])
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let number = (
        parts.next().unwrap_or(0),
        parts.next().unwrap_or(0),
        parts.next().unwrap_or(0),
    );
    match runtime {
        "containerd" if number < (2, 0, 1) => Some(
            "it never calls STATUS, so the node says Ready as soon as the configuration is there, and never GC: the agent frees what is left",
        ),
        "crio" if number < (1, 32, 0) => {
            Some("it never calls STATUS or GC: the agent frees what is left")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_traps_are_known() {
        assert!(trap("containerd", "1.7.24").is_some());
        assert!(trap("containerd", "2.0.0").is_some());
        assert!(trap("containerd", "2.0.1").is_none());
        assert!(trap("crio", "1.31.4").is_some());
        assert!(trap("crio", "1.32.0").is_none());
        assert!(trap("other", "0.1.0").is_none());
    }
}
