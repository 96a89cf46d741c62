//! Carries out the steps of `diff` and turns what the kernel refuses into problems with names. Called by `reconcile`.

use crate::problem::{Problem, ProblemKind};
use dataplane::error::KernelError;
use dataplane::names::ROUTE_PROTOCOL;
use dataplane::netlink::Netlink;
use dataplane::route::{RouteInfo, RouteOp, RouteSpec};

/// What became of the steps.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub(crate) added: usize,
    pub(crate) replaced: usize,
    pub(crate) removed: usize,
    pub(crate) problems: Vec<Problem>,
}

impl Applied {
    pub(crate) fn changed(&self) -> usize {
        self.added + self.replaced + self.removed
    }
}

/// All steps, whatever becomes of the single ones.
pub(crate) fn apply_routes(netlink: &mut Netlink, ops: &[RouteOp]) -> Applied {
    let mut applied = Applied::default();
    if ops.is_empty() {
        return applied;
    }
    let results = netlink.apply_routes(ops);
    let mut in_the_way = Vec::new();
    for (op, result) in ops.iter().zip(results) {
        match (op, result) {
            (RouteOp::Add(_), Ok(())) => applied.added += 1,
            (RouteOp::Replace(_), Ok(())) => applied.replaced += 1,
            (RouteOp::Remove(_), Ok(())) => applied.removed += 1,
            (RouteOp::Add(spec) | RouteOp::Replace(spec), Err(error)) if error.is_exists() => {
                in_the_way.push(spec)
            }
            // The route or its link went away by itself meanwhile; the event of that is on its way to us.
            (RouteOp::Remove(_), Err(error)) if error.is_not_found() => {}
            (_, Err(error)) => applied.problems.push(refused(&error)),
        }
    }
    if !in_the_way.is_empty() {
        applied
            .problems
            .extend(name_foreign_routes(netlink, &in_the_way));
    }
    applied
}

fn refused(error: &KernelError) -> Problem {
    Problem::new(ProblemKind::Kernel, error.to_string())
}

/// Who stands in the way. Reads the whole table, which is why it is only done when somebody does.
fn name_foreign_routes(netlink: &mut Netlink, wanted: &[&RouteSpec]) -> Vec<Problem> {
    let table = match netlink.list_routes(dataplane::names::TABLE_MAIN) {
        Ok(table) => table,
        Err(error) => return vec![refused(&error)],
    };
    wanted
        .iter()
        .filter_map(|spec| complain_of_foreign_route(spec, &table))
        .collect()
}

fn complain_of_foreign_route(spec: &RouteSpec, table: &[RouteInfo]) -> Option<Problem> {
    let same_key = |route: &&RouteInfo| route.spec.key == spec.key;
    if table
        .iter()
        .filter(same_key)
        .any(|route| route.protocol == ROUTE_PROTOCOL)
    {
        // Ours after all: the plugin was faster. The next pass finds it.
        return None;
    }
    let foreign = table.iter().find(same_key).map_or_else(
        || "a route that is not shown".to_owned(),
        |route| format!("'{}' (protocol {})", route.spec, route.protocol),
    );
    Some(Problem::new(
        ProblemKind::ForeignRoute,
        format!(
            "route '{spec}' cannot be made: {foreign} of another owner is in its place; remove that one, it is never replaced"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::route::{RouteKey, RouteKind};

    fn info(protocol: u8) -> RouteInfo {
        let spec = RouteSpec {
            key: RouteKey::main("10.244.1.0/24".parse().unwrap()),
            kind: RouteKind::Unicast,
            via: Some("192.0.2.2".parse().unwrap()),
            dev: Some(2),
            onlink: false,
            mtu: None,
            src: None,
        };
        RouteInfo {
            spec,
            protocol,
            scope: 0,
            usable: true,
        }
    }

    #[test]
    fn a_foreign_route_in_the_way_is_named_with_its_protocol() {
        let problem = complain_of_foreign_route(&info(32).spec, &[info(4)]).unwrap();
        assert_eq!(problem.kind, ProblemKind::ForeignRoute);
        assert!(
            problem.text.contains("10.244.1.0/24 via 192.0.2.2")
                && problem.text.contains("protocol 4"),
            "{problem}"
        );
    }

    #[test]
    fn our_own_route_that_somebody_else_of_us_made_is_no_problem() {
        assert_eq!(complain_of_foreign_route(&info(32).spec, &[info(32)]), None);
    }
}
