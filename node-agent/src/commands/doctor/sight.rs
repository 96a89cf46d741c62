//! What doctor looks at beyond `Look`: sysctls, everybody's rules, the kernel's own answers about ways and sources, probes,
//! the runtime's folders. Each part that cannot be read is an `Err` with the reason, and only its checks go without.

use crate::look::Look;
use crate::look::conflist::{self, ConfFile};
use crate::ruleset::read::{self, Rules};
use crate::settings::Settings;
use dataplane::netlink::Netlink;
use std::path::PathBuf;
use std::time::Duration;

pub(super) mod host;
pub(super) mod paths;
pub(super) mod sysctls;

use host::{Host, Runtime};
use paths::{PathProbe, SourceCheck, WayCheck};
use sysctls::Sysctls;

/// A part of the sight.
pub(super) type Part<T> = Result<T, String>;

/// All that the checks judge.
#[derive(Debug, Clone)]
pub(super) struct Sight {
    pub(super) look: Look,
    pub(super) sysctls: Sysctls,
    pub(super) rules: Part<Rules>,
    /// The way that the kernel takes to each peer's pods.
    pub(super) ways: Part<Vec<WayCheck>>,
    /// What reverse-path filters say to each peer's pods.
    pub(super) sources: Part<Vec<SourceCheck>>,
    pub(super) probes: Part<Vec<PathProbe>>,
    pub(super) conf_files: Part<Vec<ConfFile>>,
    pub(super) conf_dir: PathBuf,
    pub(super) conf_name: String,
    /// The kernel takes our table (`nft --check`).
    pub(super) table_fits: Part<()>,
    pub(super) host: Host,
    pub(super) runtime: Option<Runtime>,
    /// Addresses that are claimed and that no record speaks for.
    pub(super) orphans: Part<Vec<std::net::IpAddr>>,
}

impl Sight {
    /// Observes; `probe`: how long to wait for the echoes of peers, `None` to send none.
    pub(super) fn take(settings: &Settings, probe: Option<Duration>) -> anyhow::Result<Sight> {
        let look = Look::take(settings)?;
        let mut netlink = Netlink::open()?;
        let said = |error: dataplane::error::KernelError| error.to_string();
        Ok(Sight {
            sysctls: Sysctls::read(&settings.proc_sys, &look),
            rules: read::read(&settings.nft_program),
            ways: paths::check_ways(&mut netlink, &look).map_err(said),
            sources: paths::check_sources(&mut netlink, &look).map_err(said),
            probes: match probe {
                Some(patience) => paths::probe(&look, patience),
                None => Err("no packets were to be sent (--no-probes)".into()),
            },
            conf_files: conflist::list(&settings.cni_conf_dir)
                .map_err(|error| format!("read {}: {error}", settings.cni_conf_dir.display())),
            conf_dir: settings.cni_conf_dir.clone(),
            conf_name: settings.cni_conf_name.clone(),
            table_fits: host::check_table(settings),
            host: Host::read(settings),
            runtime: host::find_runtime(),
            orphans: host::find_orphans(settings, &look),
            look,
        })
    }
}
