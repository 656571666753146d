//! docs/providers.md has one section for each provider and one for each grant that works there.

use std::collections::BTreeMap;
use std::path::Path;

use mailbearer::oauth::{Grant, PROVIDER_NAMES, preset};

#[test]
fn every_provider_and_every_grant_of_it_has_its_section() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/providers.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut documented: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines() {
        if let Some(grant) = line.strip_prefix("### ") {
            documented.last_mut().expect("a provider above its grants").1.push(grant.to_owned());
        } else if let Some(title) = line.strip_prefix("## ") {
            documented.push((title.to_owned(), Vec::new()));
        }
    }
    let built_in = PROVIDER_NAMES.map(|name| {
        let preset = preset(name, None, None).unwrap();
        let grants: Vec<_> = preset.grants().map(|grant| grant.to_string()).collect();
        (format!("{name}: {}", preset.title), grants)
    });
    assert_eq!(documented, built_in);
}

#[test]
fn what_every_section_says_of_hosts_and_scopes_is_what_the_program_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/providers.md");
    let text = std::fs::read_to_string(path).unwrap();
    let sections: BTreeMap<_, _> = text
        .split("\n## ")
        .skip(1)
        .filter_map(|section| Some((section.split_once(':')?.0, section)))
        .collect();
    for name in PROVIDER_NAMES {
        let preset = preset(name, Some("contoso.com"), None).or_else(|_| preset(name, None, None));
        let preset = preset.unwrap();
        let host = format!("`{}:{}`", preset.smtp_host, preset.smtp_port);
        assert!(sections[name].contains(&host), "{name}: {host}");
        for grant in Grant::ALL {
            for scope in preset.scopes(grant).unwrap_or_default() {
                assert!(sections[name].contains(&format!("`{scope}`")), "{name}: {scope}");
            }
        }
    }
}
