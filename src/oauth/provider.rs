//! The providers that are built in: what is known of one, and how it is asked for.
//!
//! Owns [`preset`] and its types. The data itself stands in `presets.rs`. Nothing here knows an
//! account.

use std::fmt;

use url::Url;

use crate::base::Printable;
use crate::oauth::presets;
use crate::oauth::{Endpoints, Grant, Mechanism};

/// The names that [`preset`] knows.
pub const PROVIDER_NAMES: [&str; 10] = [
    "office365",
    "outlook",
    "hve",
    "gmail",
    "yahoo",
    "aol",
    "fastmail",
    "yandex",
    "mailru",
    "comcast",
];

/// Everything that is known about a provider before an account is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderPreset {
    /// The name in the configuration.
    pub name: &'static str,
    /// Which of its clouds, if it has several.
    pub cloud: Option<Cloud>,
    /// What it is called elsewhere.
    pub title: &'static str,
    /// The submission host.
    pub smtp_host: &'static str,
    /// Its port.
    pub smtp_port: u16,
    /// How TLS starts there.
    pub smtp_tls: SubmissionTls,
    /// How a token is presented there.
    pub mechanism: Mechanism,
    /// Where people sign in and tokens are handed out.
    pub endpoints: Endpoints,
    /// What the provider allows one mailbox.
    pub limits: SubmissionLimits,
    /// How much of the limits the provider says itself.
    pub limits_source: LimitsSource,
    /// How long tokens live, as far as it is known.
    pub lifetimes: &'static str,
    /// Scopes for a person who signs in, or why nobody can.
    pub(super) person: Access,
    /// Whether a person may sign in with a code on another device, or why not.
    pub(super) device: Result<(), &'static str>,
    /// Scopes for a program that signs in as itself, or why it cannot.
    pub(super) program: Access,
    /// False if Entra was asked for a tenant that is many.
    pub(super) is_one_tenant: bool,
}

/// What to ask for, or why it is of no use.
pub(super) type Access = Result<Vec<String>, &'static str>;

/// How TLS starts at a submission host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmissionTls {
    /// After the STARTTLS command.
    StartTls,
    /// With the connection.
    Implicit,
}

impl SubmissionTls {
    /// The name that the configuration uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StartTls => "starttls",
            Self::Implicit => "implicit",
        }
    }
}

/// What a provider allows one mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubmissionLimits {
    /// Sessions at a time.
    pub sessions: usize,
    /// Messages in a minute.
    pub messages_per_minute: u32,
    /// Recipients in 24 hours.
    pub recipients_per_day: u32,
    /// Octets of a message as the provider's EHLO announces them.
    pub max_message_octets: Option<u64>,
}

impl SubmissionLimits {
    /// Stands for no known limit of messages in a minute.
    pub const ANY_RATE: u32 = 1_000_000;
    /// Stands for no known limit of recipients in a day.
    pub const ANY_RECIPIENTS: u32 = 1_000_000_000;
}

/// Where the limits come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitsSource {
    /// The provider says all of them.
    Published,
    /// The provider, or people who ran into it, say the recipients in a day; the rest is our
    /// caution.
    Partly,
    /// All of them are our caution: what Exchange Online allows.
    Caution,
}

impl LimitsSource {
    /// One word for listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Partly => "partly",
            Self::Caution => "caution",
        }
    }
}

/// Which of Microsoft's clouds a tenant lives in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cloud {
    /// `worldwide`, GCC included.
    #[default]
    Worldwide,
    /// `gcc_high`.
    GccHigh,
    /// `dod`.
    Dod,
    /// `china`: 21Vianet.
    China,
}

impl Cloud {
    /// Every cloud.
    pub const ALL: [Cloud; 4] = [Self::Worldwide, Self::GccHigh, Self::Dod, Self::China];

    /// The name that the configuration uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Worldwide => "worldwide",
            Self::GccHigh => "gcc_high",
            Self::Dod => "dod",
            Self::China => "china",
        }
    }
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ProviderPreset {
    /// The scopes to ask for with `grant`, or why this provider cannot do it.
    pub fn scopes(&self, grant: Grant) -> Result<Vec<String>, PresetError> {
        if grant == Grant::ClientCredentials && self.program.is_ok() && !self.is_one_tenant {
            return Err(PresetError::OneTenantNeeded);
        }
        self.access(grant).cloned().map_err(|reason| PresetError::GrantNotAllowed {
            provider: self.name,
            grant,
            reason,
            instead: self.grants().next().unwrap_or(Grant::AuthorizationCode),
        })
    }

    /// The grants that work for mail at this provider, the usual one first.
    pub fn grants(&self) -> impl Iterator<Item = Grant> {
        Grant::ALL.into_iter().filter(|grant| self.refusal(*grant).is_none())
    }

    /// Why `grant` does not work for mail at this provider; none if it does.
    pub fn refusal(&self, grant: Grant) -> Option<&'static str> {
        self.access(grant).err()
    }

    fn access(&self, grant: Grant) -> Result<&Vec<String>, &'static str> {
        let access = match grant {
            Grant::AuthorizationCode => &self.person,
            Grant::DeviceCode => {
                self.device?;
                &self.person
            }
            Grant::ClientCredentials => &self.program,
        };
        access.as_ref().map_err(|reason| *reason)
    }
}

/// The provider called `name`. `tenant` is a verified domain or the directory's id; office365 and
/// hve have tenants, and only office365 has several clouds.
pub fn preset(
    name: &str,
    tenant: Option<&str>,
    cloud: Option<Cloud>,
) -> Result<ProviderPreset, PresetError> {
    let Some(known) = PROVIDER_NAMES.into_iter().find(|known| *known == name) else {
        return Err(PresetError::Unknown { name: Printable::text(name).to_string() });
    };
    if tenant.is_some() && !matches!(known, "office365" | "hve") {
        return Err(PresetError::NoTenants { provider: known });
    }
    if cloud.is_some() && known != "office365" {
        return Err(PresetError::NoClouds { provider: known });
    }
    match known {
        "office365" => presets::office365(tenant, cloud.unwrap_or_default()),
        "outlook" => presets::outlook(),
        "hve" => presets::hve(tenant),
        _ => presets::others().into_iter().find(|preset| preset.name == known).ok_or_else(|| {
            debug_assert!(false, "{known} has a name and no data");
            PresetError::Unknown { name: known.to_owned() }
        }),
    }
}

/// Every provider, and every cloud of one that has several, as they are without a tenant.
pub fn every_preset() -> Vec<ProviderPreset> {
    let clouds = |name: &str| match name {
        "office365" => Cloud::ALL.map(Some).to_vec(),
        _ => vec![None],
    };
    let presets = PROVIDER_NAMES.into_iter().flat_map(|name| {
        clouds(name).into_iter().filter_map(move |cloud| preset(name, None, cloud).ok())
    });
    presets.collect()
}

/// Parameters that the provider called `name` wants in an authorization URL beside the standard
/// ones; none for a provider that is not built in.
pub fn authorization_parameters(name: &str) -> &'static [(&'static str, &'static str)] {
    match name {
        // Without both, Google hands out a refresh token only at the very first consent.
        "gmail" => &[("access_type", "offline"), ("prompt", "consent")],
        _ => &[],
    }
}

/// What the provider called `name` is asked for beside its scopes for mail when a person signs in, so
/// that its ID token names the person. Entra lets these stand beside the scopes of any resource.
pub fn identity_scopes(name: &str) -> &'static [&'static str] {
    match name {
        "office365" | "outlook" | "gmail" => &["openid", "email", "profile"],
        _ => &[],
    }
}

/// Where the provider called `name` ends refresh tokens (RFC 7009). Entra has no such endpoint.
pub fn revocation_url(name: &str) -> Option<Url> {
    match name {
        "gmail" => Url::parse("https://oauth2.googleapis.com/revoke").ok(),
        _ => None,
    }
}

/// The `iss` of the provider called `name`, where it is known before anybody has signed in: Entra's
/// has the directory's id in it, which a domain or `organizations` does not tell.
pub fn issuer(name: &str, token_url: &Url) -> Option<String> {
    match name {
        "office365" => {
            let tenant = token_url.path_segments()?.next()?;
            let is_id = tenant.split('-').map(str::len).eq([8, 4, 4, 4, 12])
                && tenant.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
            let tenant = tenant.to_ascii_lowercase();
            is_id.then(|| format!("https://{}/{tenant}/v2.0", token_url.authority()))
        }
        "gmail" => Some("https://accounts.google.com".to_owned()),
        "fastmail" => Some("https://api.fastmail.com".to_owned()),
        _ => None,
    }
}

/// The address at which a browser ends after a sign-in at the provider called `name`, if that
/// takes no http://localhost. Nobody listens there: the address has to be pasted.
pub fn pasted_redirect(name: &str) -> Option<Url> {
    match name {
        // Yahoo's registration takes https addresses only.
        "yahoo" | "aol" => Some(presets::url("https://localhost/")),
        _ => None,
    }
}

/// Why a preset cannot be used like that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresetError {
    /// No provider of this name is built in.
    #[error(
        "no provider `{name}` is built in; use one of {}, or describe it in a [[provider]]",
        PROVIDER_NAMES.join(", ")
    )]
    Unknown {
        /// What was written.
        name: String,
    },
    /// The tenant is not one.
    #[error(
        "`{tenant}` is not a tenant; use the directory (tenant) id or a domain of the organisation"
    )]
    Tenant {
        /// What was written.
        tenant: String,
    },
    /// This provider has no tenants.
    #[error("{provider} has no tenants; remove `tenant`")]
    NoTenants {
        /// The provider.
        provider: &'static str,
    },
    /// This provider has no clouds.
    #[error("{provider} has no clouds; remove `cloud`")]
    NoClouds {
        /// The provider.
        provider: &'static str,
    },
    /// The provider does not do this grant for mail.
    #[error("{provider} does not allow the grant {grant} for mail: {reason}; use {instead}")]
    GrantNotAllowed {
        /// The provider.
        provider: &'static str,
        /// The grant.
        grant: Grant,
        /// Why not.
        reason: &'static str,
        /// One that works there.
        instead: Grant,
    },
    /// Client credentials without a tenant of one's own.
    #[error(
        "client_credentials needs the organisation's own tenant (Entra refuses common, \
         organizations and consumers with AADSTS9001023); set `tenant` to the directory id or a \
         domain of the organisation"
    )]
    OneTenantNeeded,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "contoso.onmicrosoft.com";

    #[test]
    fn every_preset_is_complete() {
        let names: Vec<_> = every_preset().iter().map(|preset| preset.name).collect();
        assert_eq!(names[3..], PROVIDER_NAMES);
        for preset in every_preset() {
            let Endpoints { authorize, token, device } = &preset.endpoints;
            for url in [Some(token), authorize.as_ref(), device.as_ref()].into_iter().flatten() {
                assert_eq!(url.scheme(), "https", "{}", preset.name);
                assert_eq!(url.query(), None);
            }
            assert!(preset.grants().count() > 0, "{} can do nothing", preset.name);
            assert_eq!(preset.person.is_ok(), authorize.is_some(), "{}", preset.name);
            assert_eq!(preset.device.is_ok(), device.is_some(), "{}", preset.name);
            for grant in Grant::ALL {
                let scopes = preset.access(grant);
                let is_right = scopes.map_or_else(|reason| !reason.is_empty(), |s| !s.is_empty());
                assert!(is_right, "{} {grant}", preset.name);
            }
            let tls = if preset.smtp_port == 465 {
                SubmissionTls::Implicit
            } else {
                SubmissionTls::StartTls
            };
            assert_eq!(preset.smtp_tls, tls, "{}", preset.name);
            assert!(!preset.lifetimes.is_empty());
        }
    }

    #[test]
    fn office365_lives_in_the_cloud_of_its_tenant() {
        let cases = [
            (
                None,
                "smtp.office365.com",
                "https://login.microsoftonline.com",
                "https://outlook.office.com",
                "https://outlook.office365.com",
            ),
            (
                Some(Cloud::GccHigh),
                "smtp.office365.us",
                "https://login.microsoftonline.us",
                "https://outlook.office365.us",
                "https://outlook.office365.us",
            ),
            (
                Some(Cloud::Dod),
                "outlook-dod.office365.us",
                "https://login.microsoftonline.us",
                "https://outlook.office365.us",
                "https://outlook.office365.us",
            ),
            (
                Some(Cloud::China),
                "smtp.partner.outlook.cn",
                "https://login.partner.microsoftonline.cn",
                "https://partner.outlook.cn",
                "https://partner.outlook.cn",
            ),
        ];
        for (cloud, host, login, person, program) in cases {
            let preset = preset("office365", Some(TENANT), cloud).unwrap();
            assert_eq!((preset.smtp_host, preset.smtp_port), (host, 587));
            let Endpoints { authorize, token, device } = &preset.endpoints;
            let endpoint = |last| format!("{login}/{TENANT}/oauth2/v2.0/{last}");
            assert_eq!(authorize.as_ref().unwrap().as_str(), endpoint("authorize"));
            assert_eq!(token.as_str(), endpoint("token"));
            assert_eq!(device.as_ref().unwrap().as_str(), endpoint("devicecode"));
            for grant in [Grant::AuthorizationCode, Grant::DeviceCode] {
                let scopes = preset.scopes(grant).unwrap();
                assert_eq!(scopes, [&format!("{person}/SMTP.Send"), "offline_access"]);
            }
            let scopes = preset.scopes(Grant::ClientCredentials).unwrap();
            assert_eq!(scopes, [format!("{program}/.default")]);
        }
    }

    #[test]
    fn the_issuer_is_known_where_the_directory_is() {
        let issuer = |tenant| {
            issuer("office365", &preset("office365", tenant, None).unwrap().endpoints.token)
        };
        assert_eq!(issuer(None), None);
        assert_eq!(issuer(Some("contoso.onmicrosoft.com")), None);
        assert_eq!(
            issuer(Some("72F988BF-86f1-41af-91ab-2d7cd011db47")).as_deref(),
            Some("https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0")
        );
        assert_eq!(revocation_url("gmail").unwrap().scheme(), "https");
    }

    #[test]
    fn what_a_provider_cannot_do_is_refused_with_the_reason() {
        for tenant in [None, Some("common"), Some("Organizations"), Some("consumers")] {
            for name in ["office365", "hve"] {
                let preset = preset(name, tenant, None).unwrap();
                let refused = preset.scopes(Grant::ClientCredentials);
                assert_eq!(refused, Err(PresetError::OneTenantNeeded));
            }
        }
        for (name, grant, reason) in [
            ("gmail", Grant::DeviceCode, "no mail scope"),
            ("gmail", Grant::ClientCredentials, "service account"),
            ("outlook", Grant::ClientCredentials, "AADSTS9001023"),
            ("hve", Grant::AuthorizationCode, "application"),
            ("hve", Grant::DeviceCode, "application"),
            ("yandex", Grant::DeviceCode, "device"),
        ] {
            let refused = preset(name, None, None).unwrap().scopes(grant).unwrap_err().to_string();
            let start = format!("{name} does not allow the grant {grant} for mail: ");
            assert!(refused.starts_with(&start) && refused.contains(reason), "{refused}");
        }
        assert!(preset("gmail", Some(TENANT), None).is_err());
        assert!(preset("outlook", Some("consumers"), None).is_err());
        assert!(preset("hve", Some(TENANT), Some(Cloud::GccHigh)).is_err());
        assert!(matches!(preset("hotmail", None, None), Err(PresetError::Unknown { .. })));
    }

    #[test]
    fn a_tenant_cannot_leave_its_place_in_the_url() {
        for tenant in ["", "a/b", "..", "a..b", "a?b", "a#b", "a%2fb", "a b", "a\r\nb", "ü.de"] {
            for name in ["office365", "hve"] {
                let refused = preset(name, Some(tenant), None);
                assert!(matches!(refused, Err(PresetError::Tenant { .. })), "{tenant:?}");
            }
        }
    }
}
