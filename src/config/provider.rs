//! `[[provider]]`: providers that are not built in.

use std::path::PathBuf;

use url::{Host, Url};

use crate::config::files;
use crate::config::host;
use crate::config::model::{ProviderLimits, SmtpEndpoint, UpstreamTls};
use crate::config::section::{Section, Wrong};
use crate::config::server::{message_size, path};
use crate::config::source::quoted;
use crate::oauth::{Mechanism, PROVIDER_NAMES};

/// What one mailbox may do unless the configuration says otherwise: Exchange Online's numbers,
/// since a stranger's are not known and most are larger.
const DEFAULT_LIMITS: ProviderLimits = ProviderLimits {
    sessions: 3,
    messages_per_minute: 30,
    recipients_per_day: 10_000,
    max_message_octets: None,
};

/// A provider of the file, before an account's grant is known.
#[derive(Clone, Debug)]
pub(super) struct OwnProvider {
    pub(super) name: String,
    pub(super) smtp: SmtpEndpoint,
    pub(super) mechanism: Mechanism,
    pub(super) authorize_url: Option<Url>,
    pub(super) token_url: Url,
    pub(super) device_url: Option<Url>,
    pub(super) revoke_url: Option<Url>,
    pub(super) issuer: Option<String>,
    pub(super) scopes: Vec<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) limits: ProviderLimits,
}

/// The providers of the file.
#[derive(Debug, Default)]
pub(super) struct OwnProviders {
    /// Every name that could be read, also of providers with mistakes.
    pub(super) names: Vec<String>,
    /// Those without mistakes.
    pub(super) providers: Vec<OwnProvider>,
    /// There are providers without a readable name, so that an unknown name proves nothing.
    pub(super) has_nameless: bool,
}

impl OwnProviders {
    pub(super) fn read(sections: &[Section<'_, '_>]) -> Self {
        let mut own = Self::default();
        for section in sections {
            let name = section.text("name", name);
            let name = section.required("name", name, "write name = \"contoso-lab\"");
            match &name {
                None => own.has_nameless = true,
                Some(name) => own.add_name(section, name),
            }
            own.providers.extend(provider(section, name));
        }
        own
    }

    fn add_name(&mut self, section: &Section<'_, '_>, name: &str) {
        if PROVIDER_NAMES.contains(&name) {
            let what = format!("{} is built in", quoted(name));
            section.mistake("name", Wrong::new(what, "choose another name, or remove this table"));
        } else if self.names.iter().any(|other| other == name) {
            let what = format!("another provider is called {} already", quoted(name));
            section.mistake("name", Wrong::new(what, "give each its own name"));
        } else {
            self.names.push(name.to_owned());
        }
    }
}

fn provider(section: &Section<'_, '_>, name: Option<String>) -> Option<OwnProvider> {
    let smtp = section.table("smtp");
    let smtp = section.required(
        "smtp",
        smtp,
        "write smtp = { host = \"smtp.example.com\", port = 587, tls = \"starttls\" }",
    );
    let smtp = smtp.and_then(|smtp| endpoint(&smtp));
    let mechanism = section.choice("mechanism", &Mechanism::NAMES);
    let authorize_url = section.text("authorize_url", url);
    let token_url = section.text("token_url", url);
    let token_url = section.required(
        "token_url",
        token_url,
        "write where tokens come from: token_url = \"https://…/token\"",
    );
    let device_url = section.text("device_url", url);
    let revoke_url = section.text("revoke_url", url);
    let issuer = section.text("issuer", issuer);
    let scopes = section.list("scopes", "[\"smtp.send\", \"offline_access\"]", scope);
    let ca_file = section.text("ca_file", |text| files::certificates(path(section, text)?));
    let limits = match section.table("limits").optional() {
        Some(Some(table)) => limits(&table),
        Some(None) => Some(DEFAULT_LIMITS),
        None => None,
    };
    Some(OwnProvider {
        name: name?,
        smtp: smtp?,
        mechanism: mechanism.or_default()?,
        authorize_url: authorize_url.optional()?,
        token_url: token_url?,
        device_url: device_url.optional()?,
        revoke_url: revoke_url.optional()?,
        issuer: issuer.optional()?,
        scopes: scopes.or_default()?,
        ca_file: ca_file.optional()?,
        limits: limits?,
    })
}

fn name(text: &str) -> Result<String, Wrong> {
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    match is_plain && !text.is_empty() && text.len() <= 64 {
        true => Ok(text.to_owned()),
        false => Err(Wrong::new(
            format!("{} is not a name", quoted(text)),
            "write at most 64 letters, digits, dots and hyphens, such as \"contoso-lab\"",
        )),
    }
}

/// Port and TLS follow from each other: 587 begins in plaintext, 465 with TLS (RFC 8314 §3.3).
fn endpoint(section: &Section<'_, '_>) -> Option<SmtpEndpoint> {
    let host = section.text("host", host::upstream);
    let host = section.required("host", host, "write host = \"smtp.example.com\"");
    let port = section.number("port", 1, 65_535).optional();
    let tls = section
        .choice("tls", &[("starttls", UpstreamTls::StartTls), ("implicit", UpstreamTls::Implicit)])
        .optional();
    let (port, tls) = match (port?.map(|port| port as u16), tls?) {
        (Some(port), Some(tls)) => (port, tls),
        (Some(465), None) => (465, UpstreamTls::Implicit),
        (Some(port), None) => (port, UpstreamTls::StartTls),
        (None, Some(UpstreamTls::Implicit)) => (465, UpstreamTls::Implicit),
        (None, Some(UpstreamTls::StartTls) | None) => (587, UpstreamTls::StartTls),
    };
    Some(SmtpEndpoint { host: host?, port, tls })
}

fn limits(section: &Section<'_, '_>) -> Option<ProviderLimits> {
    let sessions = section.number("sessions", 1, 1_000);
    let messages_per_minute = section.number("messages_per_minute", 1, 1_000_000);
    let recipients_per_day = section.number("recipients_per_day", 1, 1_000_000_000);
    let max_message_octets = message_size(section);
    Some(ProviderLimits {
        sessions: sessions.or(DEFAULT_LIMITS.sessions as u64)? as usize,
        messages_per_minute: messages_per_minute.or(DEFAULT_LIMITS.messages_per_minute.into())?
            as u32,
        recipients_per_day: recipients_per_day.or(DEFAULT_LIMITS.recipients_per_day.into())? as u32,
        max_message_octets: max_message_octets.optional()?,
    })
}

/// A URL to which secrets may be sent: https, or http to this machine.
fn url(text: &str) -> Result<Url, Wrong> {
    let example = "write \"https://login.example.com/…\"";
    let url =
        Url::parse(text).map_err(|why| Wrong::new(format!("is not a URL: {why}"), example))?;
    let is_loopback = match url.host() {
        None => return Err(Wrong::new("has no host", example)),
        Some(Host::Domain(domain)) => domain == "localhost" || domain.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
    };
    match url.scheme() {
        "https" => {}
        "http" if is_loopback => {}
        "http" => {
            return Err(Wrong::new(
                "secrets would cross the network in plaintext",
                "write https:// (http:// is for loopback only)",
            ));
        }
        _ => return Err(Wrong::new("begins with neither https:// nor http://", example)),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Wrong::new("holds a user name or password", "remove what stands before the @"));
    }
    if url.fragment().is_some() {
        return Err(Wrong::new("holds a fragment", "remove the # and what follows (RFC 6749 §3)"));
    }
    Ok(url)
}

/// Compared as a text (RFC 9207 §2.4), so it stays as it is written.
fn issuer(text: &str) -> Result<String, Wrong> {
    url(text).map(|_| text.to_owned())
}

/// `scope-token` of RFC 6749 §3.3.
fn scope(text: &str) -> Result<String, Wrong> {
    let is_token = text.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
    match is_token && !text.is_empty() {
        true => Ok(text.to_owned()),
        false => Err(Wrong::new(
            format!("{} is not a scope", quoted(text)),
            "write each scope as an element of its own: scopes = [\"one\", \"two\"]",
        )),
    }
}
