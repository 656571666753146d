//! The providers that are built in, as data.
//!
//! A provider is here only if its endpoints and scopes are known. The sources are Microsoft's and
//! Google's pages for their own, and for the others the table that Thunderbird ships; where a
//! number is nobody's, [`LimitsSource`] says so.

use url::Url;

use crate::oauth::provider::{
    Access, Cloud, LimitsSource, PresetError, ProviderPreset, SubmissionLimits, SubmissionTls,
};
use crate::oauth::{Endpoints, Mechanism};

/// The tenant of an Entra registration that is open to every organisation.
const ANY_ORGANISATION: &str = "organizations";

/// The tenant of all personal Microsoft accounts.
const CONSUMERS: &str = "consumers";

/// Tenants that are not one tenant; Entra refuses client credentials there (AADSTS9001023).
const MANY_TENANTS: [&str; 3] = ["common", ANY_ORGANISATION, CONSUMERS];

/// "Exchange Online limits", sending limits; the size is its EHLO's.
const EXCHANGE: SubmissionLimits = SubmissionLimits {
    sessions: 3,
    messages_per_minute: 30,
    recipients_per_day: 10_000,
    max_message_octets: Some(157_286_400),
};

/// For whoever publishes none: most are larger than Exchange Online's.
const CAUTION: SubmissionLimits = SubmissionLimits { max_message_octets: None, ..EXCHANGE };

const ENTRA_LIFETIMES: &str = "access token 60 to 90 minutes; refresh token until it is unused for \
                               90 days or revoked, replaced on each use";

const UNKNOWN_LIFETIMES: &str = "not published; what the token endpoint says counts";

const NO_DEVICE_ENDPOINT: &str =
    "no page of this provider for a sign-in on another device is known";

const NO_PROGRAMS: &str = "no way to sign in without a person is known for this provider";

/// Hosts of one cloud.
struct CloudHosts {
    smtp: &'static str,
    login: &'static str,
    person: &'static str,
    program: &'static str,
}

impl CloudHosts {
    fn of(cloud: Cloud) -> Self {
        match cloud {
            Cloud::Worldwide => Self {
                smtp: "smtp.office365.com",
                login: "login.microsoftonline.com",
                person: "https://outlook.office.com",
                program: "https://outlook.office365.com",
            },
            Cloud::GccHigh => Self {
                smtp: "smtp.office365.us",
                login: "login.microsoftonline.us",
                person: "https://outlook.office365.us",
                program: "https://outlook.office365.us",
            },
            Cloud::Dod => Self {
                smtp: "outlook-dod.office365.us",
                login: "login.microsoftonline.us",
                person: "https://outlook.office365.us",
                program: "https://outlook.office365.us",
            },
            Cloud::China => Self {
                smtp: "smtp.partner.outlook.cn",
                login: "login.partner.microsoftonline.cn",
                person: "https://partner.outlook.cn",
                program: "https://partner.outlook.cn",
            },
        }
    }

    /// Always with the Outlook host: a bare SMTP.Send yields a token for Graph and a 535.
    fn person_scopes(&self) -> Access {
        Ok(vec![format!("{}/SMTP.Send", self.person), "offline_access".to_owned()])
    }

    fn program_scopes(&self) -> Access {
        Ok(vec![format!("{}/.default", self.program)])
    }
}

pub(super) fn office365(tenant: Option<&str>, cloud: Cloud) -> Result<ProviderPreset, PresetError> {
    let tenant = tenant.unwrap_or(ANY_ORGANISATION);
    let hosts = CloudHosts::of(cloud);
    Ok(ProviderPreset {
        name: "office365",
        cloud: Some(cloud),
        title: "Exchange Online",
        smtp_host: hosts.smtp,
        smtp_port: 587,
        smtp_tls: SubmissionTls::StartTls,
        mechanism: Mechanism::Xoauth2,
        endpoints: entra(hosts.login, tenant)?,
        limits: EXCHANGE,
        limits_source: LimitsSource::Published,
        lifetimes: ENTRA_LIFETIMES,
        person: hosts.person_scopes(),
        device: Ok(()),
        program: hosts.program_scopes(),
        is_one_tenant: is_one_tenant(tenant),
    })
}

/// Personal accounts of Outlook.com, on the same back end as Exchange Online.
pub(super) fn outlook() -> Result<ProviderPreset, PresetError> {
    let hosts = CloudHosts::of(Cloud::Worldwide);
    Ok(ProviderPreset {
        name: "outlook",
        cloud: None,
        title: "Outlook.com",
        smtp_host: "smtp-mail.outlook.com",
        endpoints: entra(hosts.login, CONSUMERS)?,
        // About 300 recipients a day are reported, less for new accounts.
        limits: SubmissionLimits { recipients_per_day: 300, ..CAUTION },
        limits_source: LimitsSource::Partly,
        program: Err("a personal mailbox belongs to a person, and Entra refuses programs at \
                      consumers (AADSTS9001023)"),
        is_one_tenant: false,
        ..office365(None, Cloud::Worldwide)?
    })
}

/// High Volume Email. Its rights are given to applications (Add-HVEAppAccess), never to people.
pub(super) fn hve(tenant: Option<&str>) -> Result<ProviderPreset, PresetError> {
    const APPLICATIONS_ONLY: &str =
        "the rights of a high-volume account are given to an application, not to a person";
    let tenant = tenant.unwrap_or(ANY_ORGANISATION);
    let Endpoints { token, .. } = entra(CloudHosts::of(Cloud::Worldwide).login, tenant)?;
    Ok(ProviderPreset {
        name: "hve",
        cloud: None,
        title: "High Volume Email for Microsoft 365",
        smtp_host: "smtp.hve.mx.microsoft",
        endpoints: Endpoints { authorize: None, token, device: None },
        // No rate limit is known; sessions are our caution.
        limits: SubmissionLimits {
            sessions: CAUTION.sessions,
            messages_per_minute: SubmissionLimits::ANY_RATE,
            recipients_per_day: SubmissionLimits::ANY_RECIPIENTS,
            max_message_octets: None,
        },
        limits_source: LimitsSource::Partly,
        lifetimes: "access token 60 to 90 minutes; no refresh token",
        person: Err(APPLICATIONS_ONLY),
        device: Err(APPLICATIONS_ONLY),
        is_one_tenant: is_one_tenant(tenant),
        ..office365(None, Cloud::Worldwide)?
    })
}

/// Everybody but Microsoft.
pub(super) fn others() -> [ProviderPreset; 7] {
    [
        ProviderPreset {
            title: "Gmail and Google Workspace",
            // Google publishes 2,000 a day for Workspace and a size.
            limits: SubmissionLimits {
                recipients_per_day: 2_000,
                max_message_octets: Some(35_882_577),
                ..CAUTION
            },
            limits_source: LimitsSource::Partly,
            lifetimes: "refresh token until it is unused for 6 months, revoked, or the oldest of \
                        more than 100; 7 days while the consent screen is in testing",
            device: Err("Google allows no mail scope on other devices"),
            program: Err("Google lets programs into mailboxes only by a service account"),
            ..person_only(
                "gmail",
                ("smtp.gmail.com", 587),
                "https://accounts.google.com/o/oauth2/v2/auth",
                "https://oauth2.googleapis.com/token",
                // The only scope that Gmail's SMTP accepts; gmail.send is for its web API.
                &["https://mail.google.com/"],
            )
        },
        ProviderPreset {
            title: "Yahoo Mail",
            ..person_only(
                "yahoo",
                ("smtp.mail.yahoo.com", 465),
                "https://api.login.yahoo.com/oauth2/request_auth",
                "https://api.login.yahoo.com/oauth2/get_token",
                &["mail-w"],
            )
        },
        ProviderPreset {
            title: "AOL Mail",
            ..person_only(
                "aol",
                ("smtp.aol.com", 465),
                "https://api.login.aol.com/oauth2/request_auth",
                "https://api.login.aol.com/oauth2/get_token",
                &["mail-w"],
            )
        },
        ProviderPreset {
            title: "Fastmail",
            ..person_only(
                "fastmail",
                ("smtp.fastmail.com", 465),
                "https://api.fastmail.com/oauth/authorize",
                "https://api.fastmail.com/oauth/refresh",
                &["https://www.fastmail.com/dev/protocol-smtp"],
            )
        },
        ProviderPreset {
            title: "Yandex Mail",
            ..person_only(
                "yandex",
                ("smtp.yandex.com", 465),
                "https://oauth.yandex.com/authorize",
                "https://oauth.yandex.com/token",
                &["mail:smtp"],
            )
        },
        ProviderPreset {
            title: "Mail.ru",
            ..person_only(
                "mailru",
                ("smtp.mail.ru", 465),
                "https://o2.mail.ru/login",
                "https://o2.mail.ru/token",
                &["mail.imap"],
            )
        },
        ProviderPreset {
            title: "Xfinity (Comcast)",
            ..person_only(
                "comcast",
                ("smtp.comcast.net", 587),
                "https://oauth.xfinity.com/oauth/authorize",
                "https://oauth.xfinity.com/oauth/token",
                &["https://email.comcast.net/", "profile", "openid"],
            )
        },
    ]
}

/// A provider of which only the sign-in of a person is known.
fn person_only(
    name: &'static str,
    (smtp_host, smtp_port): (&'static str, u16),
    authorize: &str,
    token: &str,
    scopes: &[&str],
) -> ProviderPreset {
    ProviderPreset {
        name,
        cloud: None,
        title: name,
        smtp_host,
        smtp_port,
        smtp_tls: match smtp_port {
            465 => SubmissionTls::Implicit,
            _ => SubmissionTls::StartTls,
        },
        mechanism: Mechanism::Xoauth2,
        endpoints: Endpoints { authorize: Some(url(authorize)), token: url(token), device: None },
        limits: CAUTION,
        limits_source: LimitsSource::Caution,
        lifetimes: UNKNOWN_LIFETIMES,
        person: Ok(scopes.iter().map(|&scope| scope.to_owned()).collect()),
        device: Err(NO_DEVICE_ENDPOINT),
        program: Err(NO_PROGRAMS),
        is_one_tenant: true,
    }
}

/// A URL of this file.
pub(super) fn url(text: &str) -> Url {
    Url::parse(text).expect("the presets are checked by a test")
}

/// Microsoft, "National clouds: authentication endpoints".
fn entra(login: &str, tenant: &str) -> Result<Endpoints, PresetError> {
    let wrong = || PresetError::Tenant { tenant: crate::base::Printable::text(tenant).to_string() };
    if !is_tenant(tenant) {
        return Err(wrong());
    }
    let endpoint = |last: &str| {
        Url::parse(&format!("https://{login}/{tenant}/oauth2/v2.0/{last}")).map_err(|_| wrong())
    };
    Ok(Endpoints {
        authorize: Some(endpoint("authorize")?),
        token: endpoint("token")?,
        device: Some(endpoint("devicecode")?),
    })
}

/// A directory id, a verified domain or one of Entra's words; nothing that could leave its place
/// in a URL's path.
fn is_tenant(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() <= 255 && text.split('.').all(is_label)
}

fn is_one_tenant(tenant: &str) -> bool {
    !MANY_TENANTS.contains(&tenant.to_ascii_lowercase().as_str())
}
