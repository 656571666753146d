//! `mailbearer providers`.

use clap::Args;
use serde::Serialize;

use super::exit::Failure;
use super::table::{Table, print_json};
use crate::oauth::{Grant, ProviderPreset, SubmissionLimits, every_preset};

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
    /// None: no limit is known.
    messages_per_minute: Option<u32>,
    /// None: no limit is known.
    recipients_per_day: Option<u32>,
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
        let heading = [
            "PROVIDER",
            "CLOUD",
            "SMTP",
            "MECHANISM",
            "SESSIONS",
            "PER MINUTE",
            "PER DAY",
            "LIMITS",
        ];
        let mut table = Table::new(heading);
        for provider in &providers {
            let ProviderReport { smtp_host, smtp_port, limits, .. } = provider;
            table.row([
                provider.provider.to_owned(),
                provider.cloud.unwrap_or("-").to_owned(),
                format!("{smtp_host}:{smtp_port} {}", provider.smtp_tls),
                provider.mechanism.to_owned(),
                limits.sessions.to_string(),
                shown(limits.messages_per_minute),
                shown(limits.recipients_per_day),
                limits.source.to_owned(),
            ]);
        }
        table.print("No provider is built in.");
        println!("\nGrants (the same in every cloud):");
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

fn shown(limit: Option<u32>) -> String {
    limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string())
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
            messages_per_minute: Some(limits.messages_per_minute)
                .filter(|limit| *limit < SubmissionLimits::ANY_RATE),
            recipients_per_day: Some(limits.recipients_per_day)
                .filter(|limit| *limit < SubmissionLimits::ANY_RECIPIENTS),
            max_message_octets: limits.max_message_octets,
            source: preset.limits_source.as_str(),
        },
        lifetimes: preset.lifetimes,
    }
}
