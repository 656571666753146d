//! A damaged configuration is refused, or it is exactly what it says: no mutation of a sample makes
//! the program panic, and none yields a weaker configuration in silence.

mod config_files;

use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use mailbearer::config::{self, AuthPolicy, Config, ConfigMistakes, ListenerTls};
use proptest::prelude::*;
use proptest::sample::Index;

use config_files::{folder, samples, with_optional_keys};

/// The samples as they are, and with all their optional keys; without comments, since damage there
/// proves nothing.
fn texts() -> Vec<String> {
    // The environment belongs to the whole process, so no test sets a variable.
    let without_variable = |text: &str| -> String {
        let is_kept = |line: &&str| !line.contains("{ env");
        text.lines().filter(is_kept).map(|line| format!("{line}\n")).collect()
    };
    let without_comments = |text: String| -> String {
        let is_kept = |line: &&str| !line.is_empty() && !line.starts_with('#');
        text.lines().filter(is_kept).map(|line| format!("{line}\n")).collect()
    };
    samples()
        .iter()
        .flat_map(|(_, text)| [text.clone(), with_optional_keys(&without_variable(text))])
        .map(without_comments)
        .collect()
}

fn parse(text: &str, folder: &Path) -> Result<Config, ConfigMistakes> {
    config::parse(text, &folder.join("mailbearer.toml"))
}

/// What has to hold of every configuration that was taken, judged without the checker.
fn judge(text: &str, config: &Config) -> Result<(), String> {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let written = |line: &str| lines.iter().filter(|written| **written == line).count();
    let ensure = |is_right: bool, what: &str| is_right.then_some(()).ok_or_else(|| what.to_owned());

    ensure(!config.listeners.is_empty() && !config.accounts.is_empty(), "nothing to do")?;
    for listener in &config.listeners {
        let is_open = listener.auth != AuthPolicy::Required;
        ensure(!is_open || !listener.networks.is_empty(), "served without networks")?;
        // From all over the world; no two of them are in one network of a legal size.
        let strangers = ["1.1.1.1", "8.8.8.8", "151.101.1.1", "203.0.113.9", "2a00::1", "2600::1"];
        let served = strangers
            .iter()
            .filter(|stranger| listener.network_of(stranger.parse::<IpAddr>().unwrap()).is_some())
            .count();
        ensure(served <= 1, "an open relay")?;
        for network in listener.networks.iter().flat_map(|network| &network.from) {
            ensure(network.prefix() >= 7, "a network as wide as the internet")?;
        }
        if listener.plaintext_auth && !listener.address.ip().is_loopback() {
            ensure(lines.iter().any(|line| is_true(line)), "passwords in plaintext")?;
        }
        let is_encrypted = matches!(listener.tls, ListenerTls::Require | ListenerTls::Implicit);
        ensure(!(listener.plaintext_auth && is_encrypted), "plaintext AUTH where TLS comes first")?;
    }
    let networks = config.listeners.iter().flat_map(|listener| &listener.networks);
    for name in networks.map(|n| &n.account).chain(config.credentials.iter().map(|c| &c.account)) {
        ensure(config.account(name).is_some(), "an account that does not exist")?;
    }
    let names: HashSet<_> = config.accounts.iter().map(|account| &account.name).collect();
    ensure(names.len() == config.accounts.len(), "a mailbox twice")?;
    for account in &config.accounts {
        for url in [Some(&account.provider.token_url), account.provider.authorize_url.as_ref()] {
            let is_safe = |url: &url::Url| {
                let is_loopback =
                    matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
                url.scheme() == "https" || is_loopback
            };
            ensure(url.is_none_or(is_safe), "secrets in plaintext")?;
        }
        let limits = account.provider.limits;
        ensure(limits.sessions > 0 && limits.messages_per_minute > 0, "no limits")?;
    }
    for credential in &config.credentials {
        ensure(!credential.may_send_as.is_empty(), "a credential that may send as nobody")?;
    }
    // Nothing that was written is passed over.
    for (header, count) in [
        ("[[listener]]", config.listeners.len()),
        ("[[credential]]", config.credentials.len()),
        ("[[account]]", config.accounts.len()),
        ("[[listener.network]]", config.listeners.iter().map(|l| l.networks.len()).sum()),
    ] {
        ensure(written(header) <= count, &format!("{header} passed over"))?;
    }
    Ok(())
}

/// `plaintext_auth = true`, with any spaces and quotes that TOML allows around the key.
fn is_true(line: &str) -> bool {
    let bare: String = line.chars().filter(|c| !c.is_whitespace() && !"\"'".contains(*c)).collect();
    bare.starts_with("plaintext_auth=true") || bare.contains(",plaintext_auth=true")
}

/// Every text that one typing error makes of another.
fn typing_errors(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    for at in 0..=text.len() {
        let (before, behind) = text.split_at(at);
        all.push(format!("{before}x{behind}"));
        if let Some(first) = behind.chars().next() {
            all.push(format!("{before}{}", &behind[1..]));
            all.push(format!("{before}x{}", &behind[1..]));
            all.push(format!("{before}{first}{behind}"));
        }
        if behind.len() >= 2 {
            let swapped: String = behind[..2].chars().rev().collect();
            all.push(format!("{before}{swapped}{}", &behind[2..]));
        }
    }
    all.retain(|error| error != text);
    all
}

/// The lines of a text that set a key: their number, the key and the value.
fn settings(text: &str) -> Vec<(usize, &str, &str)> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| line.starts_with(|c: char| c.is_ascii_lowercase()))
        .filter_map(|(at, line)| line.split_once(" = ").map(|(key, value)| (at, key, value)))
        .collect()
}

fn with_line(text: &str, at: usize, line: &str) -> String {
    let line_of = |(number, old)| format!("{}\n", if number == at { line } else { old });
    text.lines().enumerate().map(line_of).collect()
}

#[test]
fn a_typing_error_in_a_key_is_always_refused() {
    let folder = folder();
    let mut seen = HashSet::new();
    let mut count = 0;
    for text in texts() {
        for (at, key, value) in settings(&text) {
            // Once for each key and value is enough: their places do not matter.
            if !seen.insert((key.to_owned(), value.to_owned())) {
                continue;
            }
            for error in typing_errors(key) {
                let damaged = with_line(&text, at, &format!("{error} = {value}"));
                assert!(parse(&damaged, folder.path()).is_err(), "{error} = {value} was taken");
                count += 1;
            }
        }
    }
    assert!(count > 1_000, "only {count} typing errors");
}

#[test]
fn a_typing_error_in_a_word_is_always_refused() {
    let words = ["tls", "auth", "grant", "sender", "delivery", "bare_newline", "format", "level"];
    let folder = folder();
    let mut seen = HashSet::new();
    for text in texts() {
        for (at, key, value) in settings(&text) {
            let word = value.trim_matches('"');
            if !words.contains(&key) || !seen.insert((key.to_owned(), word.to_owned())) {
                continue;
            }
            for error in typing_errors(word) {
                let damaged = with_line(&text, at, &format!("{key} = \"{error}\""));
                assert!(parse(&damaged, folder.path()).is_err(), "{key} = {error:?} was taken");
            }
            for error in ["true", "0", "\"\"", "[]", "{}", "1979-05-27", "0.5"] {
                let damaged = with_line(&text, at, &format!("{key} = {error}"));
                assert!(parse(&damaged, folder.path()).is_err(), "{key} = {error} was taken");
            }
        }
    }
    let keys: HashSet<_> = seen.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, HashSet::from(words), "a sample lost a key");
}

#[test]
fn a_line_that_is_gone_never_opens_a_listener() {
    let folder = folder();
    for text in texts() {
        for at in 0..text.lines().count() {
            let damaged = with_line(&text, at, "");
            if let Ok(config) = parse(&damaged, folder.path())
                && let Err(what) = judge(&damaged, &config)
            {
                panic!("without line {}: {what}\n{text}", at + 1);
            }
        }
    }
}

#[test]
fn a_setting_in_another_place_is_refused_or_means_what_it_says() {
    let folder = folder();
    let mut pool: Vec<String> = [
        "auth = \"off\"",
        "auth = \"optional\"",
        "tls = \"off\"",
        "tls = \"implicit\"",
        "plaintext_auth = true",
        "network = []",
        "from = [\"0.0.0.0/0\"]",
        "from = [\"0.0.0.0/1\", \"128.0.0.0/1\"]",
    ]
    .map(str::to_owned)
    .into();
    for text in texts() {
        pool.extend(settings(&text).iter().map(|(_, key, value)| format!("{key} = {value}")));
    }
    pool.sort();
    pool.dedup();
    let mut taken = 0;
    // Every second text is a sample as it is.
    for text in texts().into_iter().step_by(2) {
        for (at, line) in text.lines().enumerate() {
            for setting in &pool {
                // Behind the line, and instead of it.
                for lines in [format!("{line}\n{setting}"), setting.clone()] {
                    let damaged = with_line(&text, at, &lines);
                    if let Ok(config) = parse(&damaged, folder.path()) {
                        taken += 1;
                        if let Err(what) = judge(&damaged, &config) {
                            panic!("{setting} at line {}: {what}\n{damaged}", at + 1);
                        }
                    }
                }
            }
        }
    }
    assert!(taken > 100, "only {taken} of them were taken, so this judged nothing");
}

#[test]
fn every_text_that_is_cut_off_is_judged() {
    let folder = folder();
    for text in texts() {
        for (at, _) in text.char_indices() {
            let cut = &text[..at];
            if let Ok(config) = parse(cut, folder.path())
                && let Err(what) = judge(cut, &config)
            {
                panic!("cut at {at}: {what}");
            }
        }
    }
}

/// One change of a text.
#[derive(Clone, Debug)]
enum Mutation {
    Character(Index, char),
    Insert(Index, String),
    RemoveLine(Index),
    RepeatLine(Index, Index),
    SwapLines(Index, Index),
    /// Takes the value of another line.
    TakeValue(Index, Index),
    /// Takes a line of another sample.
    TakeLine(Index, Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<Index>;
    prop_oneof![
        (index(), any::<char>()).prop_map(|(at, c)| Mutation::Character(at, c)),
        (index(), "[ -~]").prop_map(|(at, c)| Mutation::Insert(at, c)),
        (index(), "[=\"'\\[\\]{},.#\n\t0-9:/*\\\\-]{1,3}")
            .prop_map(|(at, s)| Mutation::Insert(at, s)),
        (index(), "\\PC{1,8}").prop_map(|(at, s)| Mutation::Insert(at, s)),
        index().prop_map(Mutation::RemoveLine),
        (index(), index()).prop_map(|(from, to)| Mutation::RepeatLine(from, to)),
        (index(), index()).prop_map(|(one, two)| Mutation::SwapLines(one, two)),
        (index(), index()).prop_map(|(to, from)| Mutation::TakeValue(to, from)),
        (index(), index(), index()).prop_map(|(o, f, t)| Mutation::TakeLine(o, f, t)),
    ]
}

fn mutate(text: &str, mutation: &Mutation, others: &[String]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.is_empty() {
        return text.to_owned();
    }
    let count = lines.len();
    match mutation {
        Mutation::Character(at, c) => {
            let mut characters: Vec<char> = text.chars().collect();
            let at = at.index(characters.len());
            characters[at] = *c;
            return characters.into_iter().collect();
        }
        Mutation::Insert(at, inserted) => {
            let mut characters: Vec<char> = text.chars().collect();
            let at = at.index(characters.len());
            characters.splice(at..at, inserted.chars());
            return characters.into_iter().collect();
        }
        Mutation::RemoveLine(at) => {
            lines.remove(at.index(count));
        }
        Mutation::RepeatLine(from, to) => {
            let line = lines[from.index(count)].clone();
            lines.insert(to.index(count), line);
        }
        Mutation::SwapLines(one, two) => lines.swap(one.index(count), two.index(count)),
        Mutation::TakeValue(to, from) => {
            let settings = settings(text);
            if settings.is_empty() {
                return text.to_owned();
            }
            let (at, key, _) = settings[to.index(settings.len())];
            let (_, _, value) = settings[from.index(settings.len())];
            lines[at] = format!("{key} = {value}");
        }
        Mutation::TakeLine(other, from, to) => {
            let other: Vec<_> = other.get(others).lines().collect();
            lines.insert(to.index(count), from.get(&other).to_string());
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn no_mutation_panics_or_weakens_in_silence() {
    let folder = folder();
    // What the samples name, but readable by others: a mutation may come to name it.
    fs::write(folder.path().join("open.txt"), "s3cret").unwrap();
    let texts = texts();
    let strategy = (any::<Index>(), prop::collection::vec(mutation(), 1..4));
    proptest!(ProptestConfig::with_cases(3_000), |((sample, mutations) in strategy)| {
        let mut text = sample.get(&texts).clone();
        for mutation in &mutations {
            text = mutate(&text, mutation, &texts);
        }
        match parse(&text, folder.path()) {
            Err(mistakes) => {
                prop_assert!(!mistakes.all().is_empty());
                for mistake in mistakes.all() {
                    prop_assert!(!mistake.what.is_empty() && !mistake.remedy.is_empty());
                    let said = format!("{}{}{}", mistake.key, mistake.what, mistake.remedy);
                    prop_assert!(said.chars().all(|c| c == '\n' || !c.is_control()), "{said:?}");
                }
            }
            Ok(config) => {
                if let Err(what) = judge(&text, &config) {
                    return Err(TestCaseError::fail(format!("{what}:\n{text}")));
                }
            }
        }
    });
}
