//! Keeps our iptables rules as `render` would write them. What the programs print right after we laid them is remembered
//! and compared: their spelling differs between versions, so it is never compared with our own. The host ports are compared
//! entry by entry, since the plugin writes them too, under the same lock and from the same records.

use super::render::{render_removal, render_rules};
use super::saved::{Saved, parse_saved};
use crate::desired::ports::Ports;
use crate::nft::render::TableModel;
use crate::nft::table::{LOCK_PATIENCE, TableChanges, TableError};
use dataplane::error::Result;
use dataplane::hostport::PortEntry;
use dataplane::iptables::ports::{parse_port_rule, port_rules, replace_ports};
use dataplane::iptables::{Flavour, has_legacy_tables, restore, save};
use dataplane::names::CHAIN_HAIRPIN;
use node_state::{StateDir, StateError};

/// The tables whose chains are kept here; FORWARD is looked after elsewhere.
const TABLES: [&str; 3] = ["raw", "mangle", "nat"];

/// Another program that writes the same chains needs a pause for one of these to be undisturbed.
const ATTEMPTS: u32 = 5;

/// Where the rules go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) flavour: Flavour,
    /// This kernel has IPv6.
    pub(crate) ipv6: bool,
}

impl Place {
    fn families(self) -> impl Iterator<Item = bool> {
        [false, true].into_iter().filter(move |v6| self.ipv6 || !v6)
    }
}

/// What we remember of the rules that we laid; a fresh process remembers nothing and lays them anew.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    laid: Option<Laid>,
}

#[derive(Debug)]
struct Laid {
    place: Place,
    /// Without its ports.
    model: TableModel,
    /// As the programs printed it, for each family.
    printed: Vec<Saved>,
    /// The ports of what was printed.
    ports: Ports,
}

impl Rules {
    /// Brings the kernel's rules to `model`; `ports` reads the records again, for use under the lock.
    pub(crate) fn ensure(
        &mut self,
        place: Place,
        state: &StateDir,
        model: &TableModel,
        ports: &mut dyn FnMut() -> std::result::Result<Ports, StateError>,
    ) -> std::result::Result<TableChanges, TableError> {
        let there = observe_all(place)?;
        let known = self
            .laid
            .as_ref()
            .filter(|laid| laid.place == place && laid.model == without_ports(model));
        let intact = known.is_some_and(|laid| same_rules(&laid.printed, &there));
        if !intact {
            let changes = TableChanges {
                laid: true,
                repaired: known.is_some(),
                ..TableChanges::default()
            };
            self.lay(place, state, model, ports)?;
            return Ok(changes);
        }
        let elements = self.ensure_ports(place, state, model, &there, ports)?;
        Ok(TableChanges {
            elements,
            ..TableChanges::default()
        })
    }

    /// Forgets them, so that the next `ensure` writes them.
    pub(crate) fn forget(&mut self) {
        self.laid = None;
    }

    fn lay(
        &mut self,
        place: Place,
        state: &StateDir,
        model: &TableModel,
        ports: &mut dyn FnMut() -> std::result::Result<Ports, StateError>,
    ) -> std::result::Result<(), TableError> {
        self.laid = None;
        let _lock = state.lock_host_ports(LOCK_PATIENCE)?;
        // A pod that came since the model was made has its record; its rule would be lost without this look.
        let ports = ports()?;
        let full = TableModel {
            ports: ports.clone(),
            ..model.clone()
        };
        let mut printed = Vec::new();
        for v6 in place.families() {
            let script = render_rules(&full, v6, &observe(place.flavour, v6)?);
            restore(place.flavour, v6, &script)?;
            let now = observe(place.flavour, v6)?;
            if !is_whole(&script, &now) || count_differences(&now, &full.ports, v6) > 0 {
                return Err(TableError::Vanished("the iptables rules are"));
            }
            printed.push(now);
        }
        self.laid = Some(Laid {
            place,
            model: without_ports(model),
            printed,
            ports,
        });
        Ok(())
    }

    /// How many entries were put right.
    fn ensure_ports(
        &mut self,
        place: Place,
        state: &StateDir,
        model: &TableModel,
        there: &[Saved],
        ports: &mut dyn FnMut() -> std::result::Result<Ports, StateError>,
    ) -> std::result::Result<usize, TableError> {
        let Some(laid) = self.laid.as_mut() else {
            return Ok(0);
        };
        if laid.ports == model.ports && same_ports(&laid.printed, there) {
            return Ok(0);
        }
        // Most often a plugin has been at work. Look again with the lock in hand.
        let _lock = state.lock_host_ports(LOCK_PATIENCE)?;
        let wanted = ports()?;
        let mut changed = 0;
        for (v6, printed) in place.families().zip(&mut laid.printed) {
            changed += put_ports_right(place.flavour, v6, &wanted, printed)?;
        }
        laid.ports = wanted;
        Ok(changed)
    }
}

/// Until the kernel holds just these; only then is it remembered. What another program writes between our writing and our
/// looking would be taken for ours, for good.
fn put_ports_right(
    flavour: Flavour,
    v6: bool,
    wanted: &Ports,
    printed: &mut Saved,
) -> std::result::Result<usize, TableError> {
    let mut changed = 0;
    for _ in 0..ATTEMPTS {
        let there = observe(flavour, v6)?;
        let differences = count_differences(&there, wanted, v6);
        if differences == 0 {
            printed.set_ports(there.table("nat").ports);
            return Ok(changed);
        }
        tracing::info!(differences, ipv6 = v6, "putting the host ports right");
        let entries: Vec<PortEntry> = wanted.values().cloned().collect();
        replace_ports(flavour, v6, &entries)?;
        changed += differences;
    }
    Err(TableError::Vanished("host ports are"))
}

/// Removes what is ours from a flavour, FORWARD included. True where there was something.
pub(crate) fn remove_rules(flavour: Flavour, ipv6: bool) -> Result<bool> {
    let mut found = false;
    for v6 in (Place { flavour, ipv6 }).families() {
        let script = render_removal(&observe(flavour, v6)?);
        if !script.is_empty() {
            restore(flavour, v6, &script)?;
            found = true;
        }
    }
    Ok(found)
}

fn without_ports(model: &TableModel) -> TableModel {
    TableModel {
        ports: Ports::new(),
        ..model.clone()
    }
}

fn observe_all(place: Place) -> Result<Vec<Saved>> {
    place
        .families()
        .map(|v6| observe(place.flavour, v6))
        .collect()
}

/// No program is started where the legacy kernel has no tables at all.
pub(crate) fn observe(flavour: Flavour, v6: bool) -> Result<Saved> {
    if flavour == Flavour::Legacy && !has_legacy_tables(v6) {
        return Ok(Saved::default());
    }
    Ok(parse_saved(&save(flavour, v6, None)?))
}

// ===== comparing (pure) =====

fn same_rules(laid: &[Saved], there: &[Saved]) -> bool {
    laid.len() == there.len()
        && laid.iter().zip(there).all(|(laid, there)| {
            TABLES.iter().all(|name| {
                let (laid, there) = (laid.table(name), there.table(name));
                laid.chains == there.chains
                    && laid.rules == there.rules
                    && laid.jumps == there.jumps
            })
        })
}

fn same_ports(laid: &[Saved], there: &[Saved]) -> bool {
    laid.iter()
        .zip(there)
        .all(|(laid, there)| laid.table("nat").ports == there.table("nat").ports)
}

/// As many rules of ours in the kernel as the script names: nobody took any away meanwhile.
fn is_whole(script: &str, there: &Saved) -> bool {
    let wanted = script
        .lines()
        .filter(|line| line.starts_with("-A ") || line.starts_with("-I "));
    let found = TABLES.iter().map(|name| {
        let table = there.table(name);
        table.rules.len() + table.ports.len() + table.jumps.len()
    });
    wanted.count() == found.sum::<usize>()
}

/// Rules that are missing, too much, or not of our kind.
fn count_differences(there: &Saved, wanted: &Ports, v6: bool) -> usize {
    // Through the same form, so that another spelling of the program is no difference.
    let spell = |line: &String| match parse_port_rule(line, v6) {
        Some(entry) => port_rules(v6, [&entry]).remove(0),
        None => line.clone(),
    };
    let mut found: Vec<String> = there.table("nat").ports.iter().map(spell).collect();
    // The programs print chains in an order of their own.
    let hairpin = format!("-A {CHAIN_HAIRPIN} ");
    found.sort_by_key(|rule| rule.starts_with(&hairpin));
    let expected = port_rules(v6, wanted.values());
    let missing = expected.iter().filter(|rule| !found.contains(rule));
    let extra = found.iter().filter(|rule| !expected.contains(rule));
    // The same rules in another order, or one of them twice.
    let shuffled = usize::from(found != expected);
    (missing.count() + extra.count()).max(shuffled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::render::tests::three_nodes;

    fn saved(ports: &[String]) -> Saved {
        parse_saved(&format!("*nat\n{}\nCOMMIT\n", ports.join("\n")))
    }

    #[test]
    fn ports_are_compared_entry_by_entry() {
        let wanted = three_nodes().ports;
        let mut rules = port_rules(false, wanted.values());
        assert_eq!(count_differences(&saved(&rules), &wanted, false), 0);
        let lost = rules.remove(0);
        assert_eq!(count_differences(&saved(&rules), &wanted, false), 1);
        rules.push(lost);
        assert_eq!(
            count_differences(&saved(&rules), &wanted, false),
            1,
            "the order counts: the first rule wins"
        );
        let (hairpins, mut chains_swapped): (Vec<String>, Vec<String>) =
            port_rules(false, wanted.values())
                .into_iter()
                .partition(|rule| rule.contains("HAIRPIN"));
        chains_swapped.splice(0..0, hairpins);
        assert_eq!(
            count_differences(&saved(&chains_swapped), &wanted, false),
            0,
            "that of chains does not"
        );
        rules.rotate_right(1);
        rules.push("-A SLASH32-HOSTPORTS -j ACCEPT".into());
        assert_eq!(count_differences(&saved(&rules), &wanted, false), 1);
    }

    #[test]
    fn a_rule_that_got_lost_between_laying_and_looking_is_noticed() {
        let script = render_rules(&three_nodes(), false, &Saved::default());
        let whole: Saved = parse_saved(&script.replace("-I ", "-A "));
        assert!(is_whole(&script, &whole));
        let cut: String = script
            .replace("-I ", "-A ")
            .lines()
            .filter(|line| !line.contains("OUTPUT"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert!(!is_whole(&script, &parse_saved(&cut)));
    }
}
