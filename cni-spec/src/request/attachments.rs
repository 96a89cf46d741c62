//! The list of attachments that GC is to leave alone (GC1, GC2).

use crate::{
    error::{CniError, ErrorCode},
    json::{self, BadValue, string},
};
use serde_json::{Map, Value};

const KEY: &str = "cni.dev/valid-attachments";
/// libcni sends the same list under the name of an earlier draft too.
const DRAFT_KEY: &str = "cni.dev/attachments";

/// (containerID, ifname) of each valid attachment; None where neither key is there. null is the empty list: everything is
/// stale. An entry without both names is refused, for what cannot be matched would be removed.
pub(super) fn read_valid_attachments(
    conf: &Map<String, Value>,
) -> Result<Option<Vec<(String, String)>>, CniError> {
    let listed = [KEY, DRAFT_KEY]
        .into_iter()
        .find_map(|key| json::find(conf, key).map(|value| (key, value)));
    let Some((key, value)) = listed else {
        return Ok(None);
    };
    let items = match value {
        Value::Null => &[][..],
        Value::Array(items) => items,
        other => {
            return Err(BadValue::new(key, other, "a list of {containerID, ifname}")
                .into_error(ErrorCode::InvalidConfig));
        }
    };
    let read = |(index, item): (usize, &Value)| {
        read_attachment(item).map_err(|bad| {
            bad.at(index)
                .within(key)
                .into_error(ErrorCode::InvalidConfig)
        })
    };
    items
        .iter()
        .enumerate()
        .map(read)
        .collect::<Result<_, _>>()
        .map(Some)
}

fn read_attachment(item: &Value) -> Result<(String, String), BadValue> {
    let map = item
        .as_object()
        .ok_or_else(|| BadValue::new("", item, "an object with containerID and ifname"))?;
    let name = |key| {
        Ok(string(map, key)?
            .ok_or_else(|| BadValue::missing(key, "a name"))?
            .to_owned())
    };
    Ok((name("containerID")?, name("ifname")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(conf: Value) -> Result<Option<Vec<(String, String)>>, CniError> {
        read_valid_attachments(conf.as_object().expect("an object"))
    }

    fn names(pairs: &[(&str, &str)]) -> Result<Option<Vec<(String, String)>>, CniError> {
        Ok(Some(
            pairs
                .iter()
                .map(|(id, ifname)| ((*id).to_owned(), (*ifname).to_owned()))
                .collect(),
        ))
    }

    #[test]
    fn gc1_the_list_is_read_in_any_case_and_the_draft_key_is_second() {
        let list = json!([{ "containerID": "c1", "ifname": "eth0" }, { "ContainerID": "c2", "IfName": "net1" }]);
        assert_eq!(
            read(json!({ KEY: list })),
            names(&[("c1", "eth0"), ("c2", "net1")])
        );
        assert_eq!(
            read(json!({ DRAFT_KEY: list })),
            names(&[("c1", "eth0"), ("c2", "net1")])
        );
        assert_eq!(
            read(json!({ KEY: [{ "containerID": "c3", "ifname": "eth0" }], DRAFT_KEY: list })),
            names(&[("c3", "eth0")])
        );
    }

    #[test]
    fn gc2_null_is_everything_stale_and_absent_is_nothing() {
        assert_eq!(read(json!({ KEY: null })), names(&[]));
        assert_eq!(read(json!({ DRAFT_KEY: null })), names(&[]));
        assert_eq!(read(json!({ KEY: [] })), names(&[]));
        assert_eq!(read(json!({})), Ok(None));
    }

    #[test]
    fn gc2_a_malformed_list_is_code_7() {
        for list in [
            json!({}),
            json!("c1"),
            json!([null]),
            json!([{ "containerID": "c1" }]),
            json!([{ "containerID": "", "ifname": "eth0" }]),
            json!([{ "containerID": 1, "ifname": "eth0" }]),
        ] {
            let error = read(json!({ KEY: list })).expect_err("malformed");
            assert_eq!(error.code, ErrorCode::InvalidConfig);
            assert!(error.msg.contains(KEY), "{error}");
        }
    }
}
