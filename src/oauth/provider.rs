//! The providers that are built in, as data.
//!
//! Owns [`preset`]: hosts, endpoints, scopes, limits and allowed grants by name. Nothing here knows
//! an account. The numbers are the providers' own where they publish them, and say so.

use url::Url;

use crate::base::Printable;
use crate::oauth::{Endpoints, Grant};

/// The names that [`preset`] knows.
pub const PROVIDER_NAMES: [&str; 2] = ["office365", "gmail"];

/// The tenant of an Entra registration that is open to every organisation.
const ANY_ORGANISATION: &str = "organizations";

/// Tenants that are not one tenant; Entra refuses client credentials there (AADSTS9001023).
const MANY_TENANTS: [&str; 3] = ["common", "organizations", "consumers"];

/// Everything that is known about a provider before an account is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderPreset {
    /// The name in the configuration.
    pub name: &'static str,
    /// The submission host.
    pub smtp_host: &'static str,
    /// Its port.
    pub smtp_port: u16,
    /// How TLS starts there.
    pub smtp_tls: SubmissionTls,
    /// Where people sign in and tokens are handed out.
    pub endpoints: Endpoints,
    /// What the provider allows one mailbox.
    pub limits: SubmissionLimits,
    /// The grants that work for mail at this provider.
    pub grants: &'static [Grant],
    delegated_scopes: &'static [&'static str],
    app_scopes: &'static [&'static str],
    is_one_tenant: bool,
}

/// How TLS starts at a submission host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmissionTls {
    /// After the STARTTLS command.
    StartTls,
    /// With the connection.
    Implicit,
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

impl ProviderPreset {
    /// The scopes to ask for with `grant`, or why this provider cannot do it.
    pub fn scopes(&self, grant: Grant) -> Result<Vec<String>, PresetError> {
        if !self.grants.contains(&grant) {
            return Err(PresetError::GrantNotAllowed { provider: self.name, grant });
        }
        let scopes = match grant {
            Grant::AuthorizationCode => self.delegated_scopes,
            Grant::ClientCredentials if !self.is_one_tenant => {
                return Err(PresetError::OneTenantNeeded);
            }
            Grant::ClientCredentials => self.app_scopes,
        };
        Ok(scopes.iter().map(|&scope| scope.to_owned()).collect())
    }
}

/// The provider called `name`. `tenant` is a verified domain or the directory's id, and only
/// office365 has one.
pub fn preset(name: &str, tenant: Option<&str>) -> Result<ProviderPreset, PresetError> {
    match name {
        "office365" => office365(tenant),
        "gmail" if tenant.is_some() => Err(PresetError::NoTenants { provider: "gmail" }),
        "gmail" => Ok(gmail()),
        _ => Err(PresetError::Unknown { name: Printable::text(name).to_string() }),
    }
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
        "office365" | "gmail" => &["openid", "email", "profile"],
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
        _ => None,
    }
}

fn office365(tenant: Option<&str>) -> Result<ProviderPreset, PresetError> {
    let tenant = tenant.unwrap_or(ANY_ORGANISATION);
    if !is_tenant(tenant) {
        return Err(PresetError::Tenant { tenant: Printable::text(tenant).to_string() });
    }
    let endpoint = |last: &str| {
        Url::parse(&format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/{last}"))
            .map_err(|_| PresetError::Tenant { tenant: tenant.to_owned() })
    };
    Ok(ProviderPreset {
        name: "office365",
        smtp_host: "smtp.office365.com",
        smtp_port: 587,
        smtp_tls: SubmissionTls::StartTls,
        endpoints: Endpoints { authorize: Some(endpoint("authorize")?), token: endpoint("token")? },
        // "Exchange Online limits", sending limits; the size is its EHLO's.
        limits: SubmissionLimits {
            sessions: 3,
            messages_per_minute: 30,
            recipients_per_day: 10_000,
            max_message_octets: Some(157_286_400),
        },
        grants: &[Grant::AuthorizationCode, Grant::ClientCredentials],
        // Always with the Outlook host: a bare SMTP.Send yields a token for Graph and a 535.
        delegated_scopes: &["https://outlook.office.com/SMTP.Send", "offline_access"],
        app_scopes: &["https://outlook.office365.com/.default"],
        is_one_tenant: !MANY_TENANTS.contains(&tenant.to_ascii_lowercase().as_str()),
    })
}

fn gmail() -> ProviderPreset {
    let url = |text| Url::parse(text).expect("the presets are checked by a test");
    ProviderPreset {
        name: "gmail",
        smtp_host: "smtp.gmail.com",
        smtp_port: 587,
        smtp_tls: SubmissionTls::StartTls,
        endpoints: Endpoints {
            authorize: Some(url("https://accounts.google.com/o/oauth2/v2/auth")),
            token: url("https://oauth2.googleapis.com/token"),
        },
        // Google publishes 2,000 a day for Workspace and a size; sessions and rate are our caution.
        limits: SubmissionLimits {
            sessions: 3,
            messages_per_minute: 30,
            recipients_per_day: 2_000,
            max_message_octets: Some(35_882_577),
        },
        grants: &[Grant::AuthorizationCode],
        // The only scope that Gmail's SMTP accepts; gmail.send is for its web API.
        delegated_scopes: &["https://mail.google.com/"],
        app_scopes: &[],
        is_one_tenant: true,
    }
}

/// A directory id, a verified domain or one of Entra's words; nothing that could leave its place
/// in a URL's path.
fn is_tenant(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() <= 255 && text.split('.').all(is_label)
}

/// Why a preset cannot be used like that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresetError {
    /// No provider of this name is built in.
    #[error(
        "no provider `{name}` is built in; use office365 or gmail, or describe it in a [[provider]]"
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
    /// The provider does not do this grant for mail.
    #[error("{provider} does not allow the grant {grant} for mail; use authorization_code")]
    GrantNotAllowed {
        /// The provider.
        provider: &'static str,
        /// The grant.
        grant: Grant,
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

    #[test]
    fn every_preset_is_complete() {
        for name in PROVIDER_NAMES {
            let preset = preset(name, None).unwrap();
            assert_eq!(preset.name, name);
            assert!(!preset.scopes(Grant::AuthorizationCode).unwrap().is_empty());
            for url in [Some(&preset.endpoints.token), preset.endpoints.authorize.as_ref()] {
                assert_eq!(url.unwrap().scheme(), "https");
            }
        }
    }

    #[test]
    fn office365_endpoints_carry_the_tenant() {
        let preset = preset("office365", Some("contoso.onmicrosoft.com")).unwrap();
        assert_eq!(
            preset.endpoints.token.as_str(),
            "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token"
        );
        assert_eq!(
            preset.scopes(Grant::ClientCredentials).unwrap(),
            ["https://outlook.office365.com/.default"]
        );
        assert_eq!(
            preset.scopes(Grant::AuthorizationCode).unwrap(),
            ["https://outlook.office.com/SMTP.Send", "offline_access"]
        );
    }

    #[test]
    fn the_issuer_is_known_where_the_directory_is() {
        let issuer =
            |tenant| issuer("office365", &preset("office365", tenant).unwrap().endpoints.token);
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
            let preset = preset("office365", tenant).unwrap();
            assert_eq!(preset.scopes(Grant::ClientCredentials), Err(PresetError::OneTenantNeeded));
        }
        let gmail = preset("gmail", None).unwrap();
        let refused = gmail.scopes(Grant::ClientCredentials).unwrap_err();
        assert!(refused.to_string().contains("gmail does not allow the grant client_credentials"));
        assert!(preset("gmail", Some("contoso.com")).is_err());
        assert!(matches!(preset("hotmail", None), Err(PresetError::Unknown { .. })));
    }

    #[test]
    fn a_tenant_cannot_leave_its_place_in_the_url() {
        for tenant in ["", "a/b", "..", "a..b", "a?b", "a#b", "a%2fb", "a b", "a\r\nb", "ü.de"] {
            let refused = preset("office365", Some(tenant));
            assert!(matches!(refused, Err(PresetError::Tenant { .. })), "{tenant:?}");
        }
    }
}
