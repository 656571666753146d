//! `[[account]]`.

use crate::base::Secret;
use crate::config::files;
use crate::config::model::{
    Account, AccountName, Delivery, Provider, ProviderLimits, SenderPolicy, SmtpEndpoint,
    UpstreamTls,
};
use crate::config::nearest::nearest;
use crate::config::provider::OwnProviders;
use crate::config::section::{Field, Section, Wrong};
use crate::config::server::path;
use crate::config::source::quoted;
use crate::mail::Mailbox;
use crate::oauth::{
    ClientRegistration, Cloud, Grant, PROVIDER_NAMES, PresetError, ProviderPreset, SubmissionTls,
    issuer, preset, revocation_url,
};

/// `delivery`, wherever it may be written.
pub(super) const DELIVERIES: &[(&str, Delivery)] =
    &[("confirm", Delivery::Confirm), ("queue", Delivery::Queue), ("direct", Delivery::Direct)];

/// The names that listeners and credentials may refer to.
#[derive(Debug, Default)]
pub(super) struct AccountNames {
    /// Every mailbox that could be read, also of accounts with mistakes.
    names: Vec<AccountName>,
    /// There are accounts without a readable mailbox, so that an unknown name proves nothing.
    has_nameless: bool,
}

impl AccountNames {
    /// Takes the name of an account; false if another has it.
    fn add(&mut self, name: AccountName) -> bool {
        let is_new = !self.names.contains(&name);
        if is_new {
            self.names.push(name);
        }
        is_new
    }

    /// The `account` of a network or credential, which has to exist.
    pub(super) fn required(&self, section: &Section<'_, '_>) -> Option<AccountName> {
        let known = || self.names.iter().map(AccountName::as_str);
        let remedy = || match self.names.as_slice() {
            [] => "write an [[account]] and name its mailbox here".to_owned(),
            _ => format!(
                "write the mailbox of an [[account]]: {}",
                known().collect::<Vec<_>>().join(", ")
            ),
        };
        let account = section.text("account", |text| {
            let name: Option<AccountName> = text.parse().ok();
            match name {
                Some(name) if self.names.contains(&name) || self.has_nameless => Ok(name),
                _ => Err(Wrong::new(
                    format!("there is no account {}", quoted(text)),
                    match nearest(text, known()) {
                        Some(near) => format!("did you mean \"{near}\"?"),
                        None => remedy(),
                    },
                )),
            }
        });
        section.required("account", account, &remedy())
    }
}

pub(super) fn account(
    section: &Section<'_, '_>,
    own: &OwnProviders,
    names: &mut AccountNames,
) -> Option<Account> {
    let mailbox = section.text("mailbox", mailbox);
    let mailbox = section.required("mailbox", mailbox, "write mailbox = \"scanner@example.com\"");
    match mailbox.as_ref().map(AccountName::of) {
        None => names.has_nameless = true,
        Some(name) if names.add(name.clone()) => {}
        Some(name) => {
            let what = format!("another account has the mailbox {name} already");
            section.mistake("mailbox", Wrong::new(what, "write each mailbox once"));
        }
    }
    let grant = section.choice("grant", &Grant::ALL.map(|grant| (grant.as_str(), grant)));
    let grant = grant.or(Grant::AuthorizationCode);
    let provider = provider(section, own, grant);
    let client = client(section, grant);
    let signs_in_as = section.text("signs_in_as", self::mailbox).optional();
    if section.has("signs_in_as") && grant.is_some_and(|grant| !grant.needs_sign_in()) {
        let what = "nobody signs in with this grant";
        let remedy = "remove it, or write grant = \"authorization_code\"";
        section.mistake("signs_in_as", Wrong::new(what, remedy));
    }
    let sender =
        section.choice("sender", &[("keep", SenderPolicy::Keep), ("refuse", SenderPolicy::Refuse)]);
    let delivery = section.choice("delivery", DELIVERIES);
    let mailbox = mailbox?;
    Some(Account {
        name: AccountName::of(&mailbox),
        mailbox,
        provider: provider?,
        signs_in_as: signs_in_as?,
        grant: grant?,
        client: client?,
        sender: sender.or_default()?,
        delivery: delivery.or_default()?,
    })
}

fn mailbox(text: &str) -> Result<Mailbox, Wrong> {
    if text.contains('*') {
        let what = format!("{} is a pattern, and an account is one mailbox", quoted(text));
        return Err(Wrong::new(what, "write an address such as \"scanner@example.com\""));
    }
    Mailbox::parse(text).map_err(|why| {
        let what = format!("{} is not a mailbox: {why}", quoted(text));
        Wrong::new(what, "write an address such as \"scanner@example.com\"")
    })
}

/// The provider as this account uses it. An unknown grant hides only what depends on it.
fn provider(
    section: &Section<'_, '_>,
    own: &OwnProviders,
    grant: Option<Grant>,
) -> Option<Provider> {
    let known = || own.names.iter().map(String::as_str).chain(PROVIDER_NAMES);
    let list = || known().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let name = section.text("provider", |text| {
        if known().any(|name| name == text) || own.has_nameless {
            return Ok(text);
        }
        Err(Wrong::new(
            format!("there is no provider {}", quoted(text)),
            match nearest(text, known()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("write one of {}, or describe it in a [[provider]]", list()),
            },
        ))
    });
    let name = section.required("provider", name, &format!("write one of {}", list()));
    let tenant = section.text("tenant", Ok);
    let cloud = section.choice("cloud", &Cloud::ALL.map(|cloud| (cloud.as_str(), cloud)));
    let name = name?;
    if PROVIDER_NAMES.contains(&name) {
        let preset = preset(name, tenant.optional()?, cloud.optional()?);
        return preset.and_then(|preset| built_in(preset, grant)).unwrap_or_else(|why| {
            refuse_preset(section, &why);
            None
        });
    }
    for key in ["tenant", "cloud"].into_iter().filter(|key| section.has(key)) {
        let what = format!("{} has no {key}s", quoted(name));
        section.mistake(key, Wrong::new(what, "remove it: its URLs stand in its [[provider]]"));
    }
    if section.has("tenant") || section.has("cloud") {
        return None;
    }
    let provider = own.providers.iter().find(|provider| provider.name == name)?.clone();
    let missing = match grant? {
        Grant::AuthorizationCode if provider.authorize_url.is_none() => Some((
            "authorize_url, where a person could sign in",
            "write it into the [[provider]], or write grant = \"client_credentials\"",
        )),
        Grant::DeviceCode if provider.device_url.is_none() => Some((
            "device_url, where a code for another device could be asked for",
            "write it into the [[provider]], or write grant = \"authorization_code\"",
        )),
        Grant::AuthorizationCode | Grant::DeviceCode | Grant::ClientCredentials => None,
    };
    if let Some((what, remedy)) = missing {
        section.mistake("grant", Wrong::new(format!("{} has no {what}", quoted(name)), remedy));
        return None;
    }
    Some(Provider {
        name: provider.name,
        smtp: provider.smtp,
        mechanism: provider.mechanism,
        authorize_url: provider.authorize_url,
        token_url: provider.token_url,
        device_url: provider.device_url,
        revoke_url: provider.revoke_url,
        issuer: provider.issuer,
        scopes: provider.scopes,
        ca_file: provider.ca_file,
        limits: provider.limits,
    })
}

fn built_in(preset: ProviderPreset, grant: Option<Grant>) -> Result<Option<Provider>, PresetError> {
    let Some(grant) = grant else {
        return Ok(None);
    };
    Ok(Some(Provider {
        name: preset.name.to_owned(),
        scopes: preset.scopes(grant)?,
        smtp: SmtpEndpoint {
            host: preset.smtp_host.to_owned(),
            port: preset.smtp_port,
            tls: match preset.smtp_tls {
                SubmissionTls::StartTls => UpstreamTls::StartTls,
                SubmissionTls::Implicit => UpstreamTls::Implicit,
            },
        },
        mechanism: preset.mechanism,
        authorize_url: preset.endpoints.authorize,
        revoke_url: revocation_url(preset.name),
        issuer: issuer(preset.name, &preset.endpoints.token),
        token_url: preset.endpoints.token,
        device_url: preset.endpoints.device,
        ca_file: None,
        limits: ProviderLimits {
            sessions: preset.limits.sessions,
            messages_per_minute: preset.limits.messages_per_minute,
            recipients_per_day: preset.limits.recipients_per_day,
            max_message_octets: preset.limits.max_message_octets,
        },
    }))
}

fn refuse_preset(section: &Section<'_, '_>, why: &PresetError) {
    let (key, what, remedy) = match why {
        PresetError::Unknown { .. } => ("provider", why.to_string(), "write another".to_owned()),
        PresetError::Tenant { tenant } => (
            "tenant",
            format!("`{tenant}` is not a tenant"),
            "write the directory (tenant) id or a domain of the organisation".to_owned(),
        ),
        PresetError::NoTenants { provider } => {
            ("tenant", format!("{provider} has no tenants"), "remove it".to_owned())
        }
        PresetError::NoClouds { provider } => {
            ("cloud", format!("{provider} has no clouds"), "remove it".to_owned())
        }
        PresetError::GrantNotAllowed { provider, grant, reason, instead } => (
            "grant",
            format!("{provider} does not allow {grant} for mail: {reason}"),
            format!("write grant = \"{instead}\""),
        ),
        PresetError::OneTenantNeeded => (
            "tenant",
            "client_credentials needs the organisation's own tenant (AADSTS9001023)".to_owned(),
            "write the directory (tenant) id or a domain of the organisation, not common, \
             organizations or consumers"
                .to_owned(),
        ),
    };
    section.mistake(key, Wrong::new(what, remedy));
}

fn client(section: &Section<'_, '_>, grant: Option<Grant>) -> Option<ClientRegistration> {
    let id = section.text("client_id", client_id);
    let id = section.required(
        "client_id",
        id,
        "write the id of your registration with the provider: client_id = \"…\"",
    );
    let secret = secret(section);
    if grant == Some(Grant::ClientCredentials) && !section.has("client_secret") {
        section.mistake(
            "grant",
            Wrong::new(
                "client_credentials needs a client_secret",
                "write client_secret = { file = \"secret.txt\" }",
            ),
        );
    }
    let secret = secret.optional();
    if matches!(section.peek("provider"), Some("office365" | "outlook" | "hve")) {
        refuse_wrong_column(section, id.as_deref(), secret.iter().flatten().next());
    }
    Some(ClientRegistration { id: id?, secret: secret? })
}

fn client_id(text: &str) -> Result<String, Wrong> {
    match text {
        "" => Err(Wrong::new("is empty", "write the id of your registration with the provider")),
        text if text.len() > 1_024 || !text.chars().all(|c| c.is_ascii_graphic()) => Err(
            Wrong::new("is not an id: it has spaces or characters that no id has", "copy it again"),
        ),
        text => Ok(text.to_owned()),
    }
}

/// `client_secret = { file = "…" }` or `{ env = "…" }`; what is written inline is never repeated.
fn secret(section: &Section<'_, '_>) -> Field<Secret> {
    let remedy = "put it into a file of its own with mode 0600 and write \
                  client_secret = { file = \"secret.txt\" }";
    let inline: Field<()> = section.read("client_secret", |value| match value.is_table() {
        true => Ok(()),
        false => Err(Wrong::new("a secret never stands in this file itself", remedy)),
    });
    let table = match inline {
        Field::Absent => return Field::Absent,
        Field::Wrong => return Field::Wrong,
        Field::Given(()) => section.table("client_secret"),
    };
    let Field::Given(table) = table else {
        return Field::Wrong;
    };
    match (table.has("file"), table.has("env")) {
        (true, false) => table.text("file", |text| files::secret(&path(section, text)?)),
        (false, true) => table.text("env", |text| from_environment(section, text)),
        (true, true) => {
            table.mistake_here(Wrong::new("names both a file and a variable", "write one of them"));
            Field::Wrong
        }
        (false, false) => {
            table.mistake_here(Wrong::new("names neither a file nor a variable", remedy));
            Field::Wrong
        }
    }
}

/// The name is not repeated: it could be the secret, in the wrong place.
fn from_environment(section: &Section<'_, '_>, name: &str) -> Result<Secret, Wrong> {
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if name.is_empty() || !is_name {
        let remedy = "write the name of an environment variable, such as \"CLIENT_SECRET\"";
        return Err(Wrong::new("is not the name of a variable", remedy));
    }
    let remedy = "set it for the process that runs mailbearer, or use a file";
    let value = (section.reader.surroundings.variable)(name)
        .ok_or_else(|| Wrong::new("this variable is not set", remedy))?;
    let value = value
        .into_string()
        .map_err(|_| Wrong::new("the value of this variable is not a text in UTF-8", remedy))?;
    files::usable_secret(&value)
        .map_err(|what| Wrong::new(format!("the value of this variable {what}"), remedy))
}

/// Eight, four, four, four and twelve hexadecimal digits.
fn is_guid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

/// What Entra's portal shows beside the right value, and what is therefore pasted instead of it.
fn refuse_wrong_column(section: &Section<'_, '_>, id: Option<&str>, secret: Option<&Secret>) {
    if id.is_some_and(|id| !is_guid(id)) {
        section.mistake(
            "client_id",
            Wrong::new(
                "is not an Application (client) ID of Entra",
                "copy it from the overview of the app registration: \
                 client_id = \"00000000-0000-0000-0000-000000000000\"",
            ),
        );
    }
    if secret.is_some_and(|secret| is_guid(secret.expose())) {
        section.mistake(
            "client_secret",
            Wrong::new(
                "this is the ID of a secret, not the secret (AADSTS7000215)",
                "copy the column \"Value\"; it is shown only once, so create a new secret if it is gone",
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::Path;

    use super::*;
    use crate::config::decode::parse_in;
    use crate::config::surroundings::Surroundings;

    /// What becomes of `client_secret = { env = "SECRET" }`.
    fn secret_from(value: Option<OsString>) -> Result<Option<Secret>, String> {
        let text = "[server]\ndata_dir = \"data\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
                    [[account]]\nmailbox = \"a@example.com\"\nprovider = \"gmail\"\n\
                    client_id = \"id\"\nclient_secret = { env = \"SECRET\" }\n";
        let variable = |name: &str| value.clone().filter(|_| name == "SECRET");
        let surroundings = Surroundings { variable: &variable, host_name: None };
        match parse_in(text, Path::new("x.toml"), &surroundings) {
            Ok(config) => Ok(config.accounts[0].client.secret.clone()),
            Err(mistakes) => Err(mistakes.all()[0].what.clone()),
        }
    }

    #[test]
    fn a_secret_comes_from_a_variable_that_holds_one() {
        assert_eq!(secret_from(Some("s3cret".into())), Ok(Some(Secret::new("s3cret"))));
        for (value, what) in [
            (None, "this variable is not set"),
            (Some(""), "the value of this variable is empty"),
            (Some("a\n"), "the value of this variable holds a control character or several lines"),
            (Some(" a"), "the value of this variable begins or ends with a space"),
        ] {
            assert_eq!(secret_from(value.map(OsString::from)), Err(what.to_owned()), "{value:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_text_holds_no_secret() {
        use std::os::unix::ffi::OsStringExt;

        let said = secret_from(Some(OsString::from_vec(vec![b'a', 0xff]))).unwrap_err();
        assert_eq!(said, "the value of this variable is not a text in UTF-8");
    }

    #[test]
    fn guids_are_told_from_secrets() {
        for (text, expected) in [
            ("01234567-89ab-CDEF-0123-456789abcdef", true),
            ("01234567-89ab-CDEF-0123-456789abcdeg", false),
            ("0123456789abCDEF0123456789abcdef", false),
            ("Abc8Q~xyz", false),
            ("", false),
        ] {
            assert_eq!(is_guid(text), expected, "{text}");
        }
    }
}
