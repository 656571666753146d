//! `mailbearer providers`.

use clap::Args;
use serde::Serialize;

use super::exit::Failure;
use super::table::{Table, print_json};
use crate::oauth::{Grant, ProviderPreset, every_preset};

/// Show the providers that are built in: hosts, mechanism, grants, limits
#[derive(Debug, Args)]
pub(crate) struct Providers {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct ProviderReport {
    provider: &'static str,
    /// The `cloud` of the account, for a provider that has several.
    cloud: Option<&'static str>,
    title: &'static str,
    smtp_host: &'static str,
    smtp_port: u16,
    smtp_tls: &'static str,
    mechanism: &'static str,
    grants: Vec<GrantReport>,
    limits: LimitsReport,
    lifetimes: &'static str,
}

#[derive(Serialize)]
struct GrantReport {
    grant: &'static str,
    /// Why it does not work there; none if it does.
    refusal: Option<&'static str>,
}

#[derive(Serialize)]
struct LimitsReport {
    sessions: usize,
    messages_per_minute: u32,
    recipients_per_day: u32,
    max_message_octets: Option<u64>,
    /// `published`, `partly` or `caution`.
    source: &'static str,
}

impl Providers {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let providers: Vec<_> = every_preset().iter().map(report).collect();
        if self.json {
            return print_json(&providers);
        }
        let heading =
            ["PROVIDER", "CLOUD", "SMTP", "MECHANISM", "SESSIONS", "PER MINUTE", "PER DAY"];
        let mut table = Table::new(heading);
        for provider in &providers {
            let ProviderReport { smtp_host, smtp_port, limits, .. } = provider;
            table.row([
                provider.provider.to_owned(),
                provider.cloud.unwrap_or("-").to_owned(),
                format!("{smtp_host}:{smtp_port} {}", provider.smtp_tls),
                provider.mechanism.to_owned(),
                limits.sessions.to_string(),
                limits.messages_per_minute.to_string(),
                limits.recipients_per_day.to_string(),
            ]);
        }
        table.print("No provider is built in.");
        println!("\nGrants (of office365, whatever its cloud):");
        let is_first = |provider: &&ProviderReport| provider.cloud.is_none_or(|c| c == "worldwide");
        for provider in providers.iter().filter(is_first) {
            println!("\n{} ({})", provider.provider, provider.title);
            for GrantReport { grant, refusal } in &provider.grants {
                println!(
                    "  {grant:<20}{}",
                    refusal.map_or("yes".to_owned(), |r| format!("no: {r}"))
                );
            }
        }
        println!("\nAny other provider can be described in a [[provider]] of the configuration.");
        Ok(())
    }
}

fn report(preset: &ProviderPreset) -> ProviderReport {
    let limits = preset.limits;
    ProviderReport {
        provider: preset.name,
        cloud: preset.cloud.map(|cloud| cloud.as_str()),
        title: preset.title,
        smtp_host: preset.smtp_host,
        smtp_port: preset.smtp_port,
        smtp_tls: preset.smtp_tls.as_str(),
        mechanism: preset.mechanism.as_str(),
        grants: Grant::ALL
            .map(|grant| GrantReport { grant: grant.as_str(), refusal: preset.refusal(grant) })
            .into(),
        limits: LimitsReport {
            sessions: limits.sessions,
            messages_per_minute: limits.messages_per_minute,
            recipients_per_day: limits.recipients_per_day,
            max_message_octets: limits.max_message_octets,
            source: preset.limits_source.as_str(),
        },
        lifetimes: preset.lifetimes,
    }
}
