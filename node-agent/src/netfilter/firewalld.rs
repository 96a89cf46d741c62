//! firewalld with its nftables back-end refuses in a table of its own, `inet firewalld`, what no zone allows to be forwarded.
//! An accept elsewhere cannot overrule that, so ours goes first into its chain filter_FORWARD, known by its comment. A reload
//! of firewalld makes the table anew; the event of that brings the accept back.

use dataplane::error::Result;
use dataplane::hostport::Nfnetlink;
use dataplane::names::HOST_LINK_PREFIX;
use dataplane::nft::{list_chain, run_script};
use std::fmt::Write;

const TABLE: &str = "firewalld";
const CHAIN: &str = "inet firewalld filter_FORWARD";
const COMMENT: &str = "comment \"slash32\"";

/// True where something was changed.
pub(crate) fn ensure(nfnetlink: &mut Nfnetlink, nft_program: &str) -> Result<bool> {
    change(nfnetlink, nft_program, true)
}

/// Takes our rules out; true where there were any.
pub(crate) fn remove(nfnetlink: &mut Nfnetlink, nft_program: &str) -> Result<bool> {
    change(nfnetlink, nft_program, false)
}

fn change(nfnetlink: &mut Nfnetlink, nft_program: &str, wanted: bool) -> Result<bool> {
    if !nfnetlink.has_inet_table(TABLE)? {
        return Ok(false);
    }
    let chain: Vec<&str> = CHAIN.split(' ').collect();
    let listed = match list_chain(nft_program, &chain) {
        Ok(listed) => listed,
        // It is being made or taken away; an event follows.
        Err(_) if !nfnetlink.has_inet_table(TABLE)? => return Ok(false),
        Err(error) => return Err(error),
    };
    let Some(script) = render_change(&listed, wanted) else {
        return Ok(false);
    };
    run_script(nft_program, &script)?;
    tracing::info!(
        wanted,
        "changed the accept for pods in firewalld's chain filter_FORWARD"
    );
    Ok(true)
}

// ===== rendering (pure) =====

/// The script that puts right what `nft -a list chain` tells; `None` where it is.
fn render_change(listed: &str, wanted: bool) -> Option<String> {
    let lines = || listed.lines().map(str::trim);
    let ours: Vec<&str> = lines().filter(|line| line.contains(COMMENT)).collect();
    let refuses = lines().any(|line| line.starts_with("reject") || line.starts_with("drop"));
    let wanted = wanted && refuses;
    let whole = ours.len() == 2
        && rules()
            .iter()
            .all(|rule| ours.iter().any(|line| line.starts_with(rule.as_str())));
    if if wanted { whole } else { ours.is_empty() } {
        return None;
    }
    let mut text = String::new();
    for handle in ours
        .iter()
        .filter_map(|line| line.split("# handle ").nth(1))
    {
        let _ = writeln!(text, "delete rule {CHAIN} handle {handle}");
    }
    if wanted {
        for rule in rules() {
            let _ = writeln!(text, "insert rule {CHAIN} {rule}");
        }
    }
    Some(text)
}

fn rules() -> [String; 2] {
    ["oifname", "iifname"].map(|way| format!("{way} \"{HOST_LINK_PREFIX}*\" accept {COMMENT}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSED: &str = "table inet firewalld {\n\tchain filter_FORWARD { # handle 167\n\
        \t\ttype filter hook forward priority filter + 10; policy accept;\n\
        \t\tct state { established, related } accept # handle 181\n\
        \t\tjump filter_FORWARD_ZONES # handle 190\n\
        \t\treject with icmpx admin-prohibited # handle 191\n\t}\n}\n";

    fn opened() -> String {
        CLOSED.replace(
            "\t\tct state {",
            "\t\tiifname \"s32*\" accept comment \"slash32\" # handle 301\n\
             \t\toifname \"s32*\" accept comment \"slash32\" # handle 300\n\t\tct state {",
        )
    }

    #[test]
    fn the_accept_goes_first_and_in_once() {
        assert_eq!(
            render_change(CLOSED, true).unwrap(),
            "insert rule inet firewalld filter_FORWARD oifname \"s32*\" accept comment \"slash32\"\n\
             insert rule inet firewalld filter_FORWARD iifname \"s32*\" accept comment \"slash32\"\n"
        );
        assert_eq!(render_change(&opened(), true), None);
    }

    #[test]
    fn what_is_ours_is_taken_out_by_handle() {
        assert_eq!(
            render_change(&opened(), false).unwrap(),
            "delete rule inet firewalld filter_FORWARD handle 301\n\
             delete rule inet firewalld filter_FORWARD handle 300\n"
        );
        assert_eq!(render_change(CLOSED, false), None);
    }

    #[test]
    fn a_firewalld_that_refuses_nothing_is_left_alone() {
        let open = CLOSED.replace("\t\treject with icmpx admin-prohibited # handle 191\n", "");
        assert_eq!(render_change(&open, true), None);
    }
}
