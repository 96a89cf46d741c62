//! Twenty pods at once out of a pool that is barely larger, everybody killed at random moments: an address that leaked
//! would be missed within a few rounds.

use crate::kills::addresses;
use crate::scale::{kills, tell};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use slash32_tests::crowd::at_once;
use slash32_tests::fault_sweep::lay;
use slash32_tests::kill::Target;
use slash32_tests::machine::Machine;
use slash32_tests::random::Random;
use slash32_tests::site::{Site, dual_stack, ip_json, patched};
use slash32_tests::suite::Test;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[Test] = &[(
    "kills_in_parallel_storms_leave_nothing_and_no_address_twice",
    kills_in_storms,
)];

const POD_COUNT: usize = 20;
const ROUNDS_AT_MOST: usize = 400;

struct Storm {
    site: Site,
    pods: Vec<(String, Machine, Value)>,
    random: Random,
    hits: [usize; 2],
}

/// 30 addresses for 20 pods, and a host port for each.
fn request(number: usize) -> Value {
    patched(
        &dual_stack(),
        json!({
            "ipam": {"ranges": [[{"subnet": "10.244.1.0/27"}], [{"subnet": "fd00:244:1::/123"}]]},
            "runtimeConfig": {"portMappings": [{"hostPort": 8000 + number, "containerPort": 80, "protocol": "tcp"}]},
        }),
    )
}

fn kills_in_storms() -> Result<()> {
    let (site, _) = lay()?;
    let pods = (0..POD_COUNT)
        .map(|number| Ok((format!("pod{number}"), site.netns()?, request(number))))
        .collect::<Result<_>>()?;
    let mut storm = Storm {
        site,
        pods,
        random: Random::named("storms"),
        hits: [0, 0],
    };
    let mut spans = [
        storm.calm(|target| target.add().map(drop))?,
        storm.calm(|target| target.del())?,
    ];
    let mut rounds = 0;
    while storm.hits.iter().any(|hits| *hits < kills()) && rounds < ROUNDS_AT_MOST {
        rounds += 1;
        storm
            .round(&mut spans)
            .with_context(|| format!("round {rounds}"))?;
    }
    let [adds, dels] = storm.hits;
    tell(format_args!(
        "{adds} kills of ADD, {dels} of DEL in {rounds} storms of {POD_COUNT} pods"
    ));
    ensure!(
        adds >= kills() && dels >= kills(),
        "too few kills were faster than the plugin"
    );
    storm.calm(|target| target.add().map(drop))?;
    storm.expect_distinct()?;
    storm.calm(|target| target.del())?;
    storm.site.expect_clean()
}

impl Storm {
    /// All pods at once, nobody killed; how long the whole crowd took.
    fn calm(&self, work: impl Fn(&Target<'_>) -> Result<()> + Sync) -> Result<Duration> {
        let start = Instant::now();
        for end in at_once(&self.pods, |pod| {
            work(&self.target(pod)).context(pod.0.clone())
        })? {
            end?;
        }
        Ok(start.elapsed())
    }

    fn target<'a>(&'a self, pod: &'a (String, Machine, Value)) -> Target<'a> {
        Target {
            site: &self.site,
            id: &pod.0,
            netns: &pod.1,
            request: &pod.2,
        }
    }

    /// Every pod at once, each killed at a moment of its own; how many kills hit. The span follows what is seen: about
    /// two of three are to hit.
    fn shoot(&mut self, verb: &str, span: &mut Duration) -> Result<usize> {
        let below = u64::try_from(span.as_micros())?.max(1);
        let moments: Vec<Duration> = (0..POD_COUNT)
            .map(|_| Duration::from_micros(self.random.below(below)))
            .collect();
        let shots: Vec<_> = self.pods.iter().zip(moments).collect();
        let hits = at_once(&shots, |(pod, delay)| self.target(pod).shoot(verb, *delay))?;
        let hits: Vec<bool> = hits.into_iter().collect::<Result<_>>()?;
        let count = hits.into_iter().filter(|hit| *hit).count();
        *span = if 3 * count < 2 * POD_COUNT {
            *span * 4 / 5
        } else {
            *span * 5 / 4
        };
        Ok(count)
    }

    fn round(&mut self, spans: &mut [Duration; 2]) -> Result<()> {
        self.hits[0] += self.shoot("ADD", &mut spans[0])?;
        self.expect_distinct().context("after killed ADDs")?;
        self.hits[1] += self.shoot("DEL", &mut spans[1])?;
        self.expect_distinct().context("after killed DELs")?;
        // Some are whole again while others still lie as they were killed.
        at_once(&self.pods, |pod| -> Result<()> {
            let target = self.target(pod);
            target.del()?;
            let result = target.add()?;
            ensure!(addresses(&result).len() == 2, "{result}");
            target.check(&result)
        })?
        .into_iter()
        .collect::<Result<Vec<()>>>()
        .context("every pod anew")?;
        self.expect_distinct().context("after the pods anew")?;
        self.calm(|target| target.del())?;
        self.site.expect_clean()
    }

    /// No address on two pods, as the pods' own namespaces have it.
    fn expect_distinct(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        for (name, netns, _) in &self.pods {
            for link in ip_json(netns, &["address", "show", "scope", "global"])? {
                for address in link["addr_info"].as_array().into_iter().flatten() {
                    // iproute2 shows {} for what it filters out.
                    let Some(local) = address["local"].as_str() else {
                        continue;
                    };
                    ensure!(
                        seen.insert(local.to_owned()),
                        "{local} of {name} is another pod's too"
                    );
                }
            }
        }
        Ok(())
    }
}
