//! Uninstall takes all that is ours, and only that.

use crate::Case;
use crate::node::{Node, finish, sh};

pub(crate) fn cases() -> Vec<Case> {
    let case = |name, body| Case {
        name,
        needs: &["ip", "nft"],
        body,
    };
    vec![
        case(
            "uninstall_takes_all_that_is_ours_and_only_that",
            uninstall_takes_all_that_is_ours_and_only_that,
        ),
        case(
            "uninstall_refuses_while_pods_are_attached",
            uninstall_refuses_while_pods_are_attached,
        ),
        case(
            "uninstall_spares_a_folder_that_is_not_ours",
            uninstall_spares_a_folder_that_is_not_ours,
        ),
    ]
}

fn uninstall_takes_all_that_is_ours_and_only_that() {
    let mut node = Node::new();
    node.converge();
    sh("ip route add 10.88.0.0/24 via 192.0.2.88 proto static
        nft add table inet other
        ip link add s3 type veth peer name x32");
    std::fs::write(node.path("net.d/99-other.conflist"), "{}").expect("write");
    let (code, said) = finish(&mut node.agent("uninstall"));
    assert_eq!(code, 0, "{said}");
    for line in [
        "removed CNI configuration",
        "removed route 10.244.1.0/24",
        "removed nftables table",
        "removed state folder",
    ] {
        assert!(said.contains(line), "{said}\nlacks {line}");
    }
    assert_eq!(node.own_routes(), [""; 0]);
    assert_eq!(sh("nft list tables"), "table inet other\n");
    assert!(sh("ip route").contains("10.88.0.0/24") && sh("ip -o link").contains(" s3@"));
    assert!(
        !node.path("run").exists()
            && !node.conflist().exists()
            && node.path("net.d/99-other.conflist").exists()
    );
    let (code, said) = finish(&mut node.agent("uninstall"));
    assert!(code == 0 && said.contains("nothing of Slash32"), "{said}");
}

fn uninstall_refuses_while_pods_are_attached() {
    let mut node = Node::new();
    node.add_pod("x", "10.244.0.5");
    node.converge();
    let before = node.own_routes();
    let (code, said) = finish(&mut node.agent("uninstall"));
    assert_eq!(code, 1);
    assert!(
        said.contains("1 pod interface is still attached") && said.contains("--force"),
        "{said}"
    );
    assert_eq!(node.own_routes(), before);
    assert!(node.conflist().exists());
    let (code, said) = finish(node.agent("uninstall").arg("--force"));
    assert_eq!(code, 0, "{said}");
    assert!(!sh("ip -o link").contains(" s32"));
    assert_eq!(node.own_routes(), [""; 0]);
}

fn uninstall_spares_a_folder_that_is_not_ours() {
    let node = Node::new();
    std::fs::create_dir(node.path("run")).expect("mkdir");
    std::fs::write(node.path("run/thesis.tex"), "years").expect("write");
    let (code, said) = finish(&mut node.agent("uninstall"));
    assert_eq!(code, 1);
    assert!(said.contains("thesis.tex"), "{said}");
    assert!(node.path("run/thesis.tex").exists());
}
