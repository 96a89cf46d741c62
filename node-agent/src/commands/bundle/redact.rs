//! Takes out of a text what must not leave the machine: bearer tokens and JWTs, values of keys that sound like secrets, PEM
//! blocks, passwords in URLs. Rather too much than too little. Pure.

/// In place of what was taken out.
const TAKEN: &str = "[redacted]";
/// A key that holds one of these names a secret.
const KEYS: [&str; 8] = [
    "token",
    "password",
    "passwd",
    "secret",
    "api-key",
    "apikey",
    "authorization",
    "key-data",
];

/// The text without secrets.
pub(super) fn redact(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut in_pem = false;
    for line in text.split_inclusive('\n') {
        if in_pem {
            in_pem = !line.contains("-----END");
            continue;
        }
        if let Some(start) = line.find("-----BEGIN") {
            clean.push_str(&redact_line(&line[..start]));
            clean.push_str(TAKEN);
            clean.push('\n');
            // A block in one line has its line breaks escaped.
            in_pem = !line[start..].contains("-----END");
            continue;
        }
        clean.push_str(&redact_line(line));
    }
    clean
}

fn redact_line(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    // After a key of a secret, until its value is over.
    let mut secret_follows = false;
    for word in split_words(line) {
        let bare = word.trim();
        let lower = bare.to_lowercase();
        if bare.is_empty() || is_separator(bare) {
            clean.push_str(word);
            if word.contains('\n') || bare == "," {
                secret_follows = false;
            }
            continue;
        }
        if lower == "bearer" || lower == "basic" {
            clean.push_str(word);
            secret_follows = true;
            continue;
        }
        if is_token(bare) || secret_follows {
            clean.push_str(TAKEN);
            // `Authorization: Bearer x`: the scheme was told above, the value is one word.
            secret_follows = false;
            continue;
        }
        secret_follows = KEYS.iter().any(|key| lower.contains(key));
        clean.push_str(&without_password(word));
    }
    clean
}

/// Words and what stands between them, in order, nothing lost.
fn split_words(line: &str) -> Vec<&str> {
    let is_break = |c: char| c.is_whitespace() || "\"'=:,{}[]()&;".contains(c);
    let mut words = Vec::new();
    let mut start = 0;
    let mut between = None;
    for (at, letter) in line.char_indices() {
        let here = is_break(letter);
        if between.is_some_and(|was| was != here) {
            words.push(&line[start..at]);
            start = at;
        }
        between = Some(here);
    }
    words.push(&line[start..]);
    words
}

fn is_separator(word: &str) -> bool {
    word.chars()
        .all(|c| c.is_whitespace() || "\"'=:,{}[]()&;".contains(c))
}

/// A JWT begins with the base64 of `{"`, and has two dots; long unbroken base64 is a key or a certificate.
fn is_token(word: &str) -> bool {
    let base64 = |c: char| c.is_ascii_alphanumeric() || "-_+/.".contains(c);
    let jwt = word.starts_with("eyJ") && word.len() > 30;
    let long = word.len() >= 120 && !word.contains('.') && word.chars().all(base64);
    jwt || long
}

/// `user:password@host` within a word is cut by the colon already; what is left is `password@host`.
fn without_password(word: &str) -> String {
    match word.rsplit_once('@') {
        Some((before, host)) if !before.is_empty() && !host.is_empty() => format!("{TAKEN}@{host}"),
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_every_usual_shape_are_taken_out() {
        let jwt = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl";
        for (text, secret) in [
            (format!("Authorization: Bearer {jwt}"), jwt),
            (format!("error: server said {jwt} is expired"), jwt),
            ("token: hunter2\n".into(), "hunter2"),
            ("{\"password\": \"hunter2\", \"a\": 1}".into(), "hunter2"),
            ("{\"bootstrapToken\":\"hunter2\"}".into(), "hunter2"),
            ("--password=hunter2 --x".into(), "hunter2"),
            ("client-key-data: aHVudGVyMg==".into(), "aHVudGVyMg"),
            ("https://admin:hunter2@proxy.example/".into(), "hunter2"),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----\nafter"
                    .into(),
                "hunter2",
            ),
            (
                "\"-----BEGIN KEY-----\\nhunter2\\n-----END KEY-----\"".into(),
                "hunter2",
            ),
            (format!("cert {}", "A1b2".repeat(40)), "A1b2A1b2"),
        ] {
            let clean = redact(&text);
            assert!(!clean.contains(secret), "{text} -> {clean}");
            assert!(clean.contains(TAKEN), "{clean}");
        }
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is() {
        for text in [
            "10.244.2.0/24 via 192.0.2.2 dev #2 proto 32\n",
            "{\"node\": \"node1\", \"atMs\": 1763719200000}\n",
            "link s32aaaaaaaaaaaa fd00:244:1::1/128, MTU 1500\n",
            "slash32_routes{state=\"wanted\"} 3\n",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn the_text_after_a_pem_block_is_kept() {
        let text = "a\n-----BEGIN X-----\nsecret\n-----END X-----\nb\n";
        assert_eq!(redact(text), "a\n[redacted]\nb\n");
    }
}
