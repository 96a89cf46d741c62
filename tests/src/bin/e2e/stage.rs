//! Runs the tests: told as cargo's own are, each with the cluster that it asks for.

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use slash32_tests::cluster::run::Run;
use slash32_tests::cluster::{Cluster, Network, Options};
use slash32_tests::enter::enter;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

/// One test.
#[derive(Clone, Copy)]
pub(crate) struct Test {
    /// A sentence.
    pub(crate) name: &'static str,
    /// The kind of cluster that it runs on.
    pub(crate) on: fn() -> Options,
    /// What it does.
    pub(crate) run: fn(&Cluster) -> Result<()>,
    /// Its cluster is no good for another test afterwards.
    pub(crate) spoils: bool,
}

/// A test on the usual cluster.
pub(crate) const fn test(name: &'static str, run: fn(&Cluster) -> Result<()>) -> Test {
    Test {
        name,
        on: usual,
        run,
        spoils: false,
    }
}

impl Test {
    /// On another kind of cluster.
    pub(crate) const fn on(self, on: fn() -> Options) -> Test {
        Test { on, ..self }
    }

    /// It leaves its cluster spoilt.
    pub(crate) const fn spoils(self) -> Test {
        Test {
            spoils: true,
            ..self
        }
    }
}

/// Flat, kube-proxy with nftables, containerd 1.6, our network; E2E_NETWORK=ptp puts the reference plugins in its place,
/// to tell a fault of the harness from one of ours.
pub(crate) fn usual() -> Options {
    let network = match std::env::var("E2E_NETWORK").as_deref() {
        Ok("ptp") => Network::Ptp,
        _ => Network::Slash32,
    };
    Options {
        network,
        ..Options::default()
    }
}

/// At most one cluster is up; two cores carry no more.
#[derive(Default)]
struct Stage {
    run: Option<Arc<Run>>,
    cluster: Option<Cluster>,
}

/// The `main` of the program.
pub(crate) fn main(tests: &[Test]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let stage = Arc::new(Mutex::new(Stage::default()));
    if !arguments.list {
        match enter().and_then(|()| Run::begin()) {
            Ok(run) => lock(&stage).run = Some(Arc::new(run)),
            Err(error) => {
                eprintln!("e2e: {error:#}");
                return ExitCode::FAILURE;
            }
        }
    }
    let mut tests = tests.to_vec();
    order(&mut tests);
    let trials = tests.into_iter().map(|test| trial(test, &stage)).collect();
    let mut conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        if let Err(error) = lock(&stage).end() {
            eprintln!("e2e: {error:#}");
            conclusion.num_failed += 1;
        }
        println!("{}", closing_line(&conclusion));
    }
    conclusion.exit_code()
}

/// Tests of one kind together, those that spoil it last, else as they are written.
fn order(tests: &mut [Test]) {
    let mut kinds: Vec<Options> = Vec::new();
    for test in tests.iter() {
        let kind = (test.on)();
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    tests.sort_by_key(|test| {
        let kind = (test.on)();
        (kinds.iter().position(|other| *other == kind), test.spoils)
    });
}

fn trial(test: Test, stage: &Arc<Mutex<Stage>>) -> Trial {
    let stage = stage.clone();
    Trial::test(test.name, move || {
        lock(&stage)
            .perform(&test)
            .map_err(|error| Failed::from(format!("{error:#}")))
    })
}

fn closing_line(conclusion: &Conclusion) -> String {
    format!(
        "{} passed, {} failed, {} skipped",
        conclusion.num_passed, conclusion.num_failed, conclusion.num_ignored
    )
}

impl Stage {
    fn perform(&mut self, test: &Test) -> Result<()> {
        let cluster = self.cluster((test.on)())?;
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (test.run)(cluster)))
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the test panicked")));
        let done = done.map_err(|error| {
            let folder = cluster.dump(test.name);
            error.context(format!("logs and state of the cluster: {folder}"))
        });
        if test.spoils || done.is_err() {
            // What failed half-way may fail others.
            self.cluster = None;
        }
        done
    }

    fn cluster(&mut self, wanted: Options) -> Result<&Cluster> {
        if self.cluster.as_ref().is_none_or(|up| up.options != wanted) {
            self.cluster = None;
            let run = self.run.as_ref().context("no run")?;
            let cluster = Cluster::start(run, wanted)?;
            let stages: Vec<String> = cluster
                .stages
                .iter()
                .map(|(stage, seconds)| format!("{stage} {seconds:.1}"))
                .collect();
            eprintln!("cluster {wanted:?} is up (s): {}", stages.join(", "));
            self.cluster = Some(cluster);
        }
        self.cluster.as_ref().context("no cluster")
    }

    fn end(&mut self) -> Result<()> {
        self.cluster = None;
        match self.run.take().map(Arc::try_unwrap) {
            Some(Ok(mut run)) => run.end(),
            Some(Err(_)) => anyhow::bail!("something still holds the run"),
            None => Ok(()),
        }
    }
}

/// A test that panicked has failed already.
fn lock(stage: &Mutex<Stage>) -> std::sync::MutexGuard<'_, Stage> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}
