//! What a provider's error usually means, and what a person does about it.
//!
//! Owns [`hint`]. Microsoft warns that programs must decide on `error` and never on the AADSTS
//! number or the text, so nothing here decides: a hint is a sentence beside a decision that was
//! made elsewhere. Numbers and meanings: Microsoft, "Microsoft Entra authentication and
//! authorization error codes"; Google, "Using OAuth 2.0 to access Google APIs".

use std::fmt;

/// A cause and its remedy, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// What it usually means.
    pub cause: &'static str,
    /// What to do, and where.
    pub remedy: &'static str,
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.cause, self.remedy)
    }
}

/// The hint for an error and its description, if there is one.
pub fn hint(error: &str, description: &str) -> Option<Hint> {
    aadsts_number(description)
        .and_then(|number| ENTRA.iter().find(|(numbers, ..)| numbers.contains(&number)))
        .map(|&(_, cause, remedy)| Hint { cause, remedy })
        .or_else(|| {
            GOOGLE
                .iter()
                .find(|(of, text, ..)| *of == error && contains(description, text))
                .map(|&(_, _, cause, remedy)| Hint { cause, remedy })
        })
        .or_else(|| {
            ANYWHERE
                .iter()
                .find(|(of, ..)| *of == error)
                .map(|&(_, cause, remedy)| Hint { cause, remedy })
        })
}

/// The number behind the first `AADSTS` of a text.
fn aadsts_number(text: &str) -> Option<u32> {
    let digits = text.split_once("AADSTS")?.1;
    let end = digits.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

fn contains(text: &str, part: &str) -> bool {
    text.to_ascii_lowercase().contains(part)
}

const SIGN_IN: &str = "sign in again with `mailbearer login`";
const ASK_ADMIN: &str = "ask the administrator of the tenant (Entra admin center, Sign-in logs)";
const TRY_LATER: &str = "nothing to do: it is tried again";

/// AADSTS numbers that mean the same to a person, the cause and the remedy.
const ENTRA: &[(&[u32], &str, &str)] = &[
    (
        &[50072, 50074, 50076, 50078, 50079],
        "the tenant demands multi-factor authentication anew",
        "sign in again with `mailbearer login`, or use the grant client_credentials",
    ),
    (
        &[50131, 50158, 53000, 53001, 53002, 53003, 530032, 530035],
        "a Conditional Access policy or the security defaults block this sign-in",
        "have this application or mailbox excluded from the policy, or use client_credentials",
    ),
    (
        &[50089, 50132, 50133, 50173, 70000],
        "the consent was revoked, or the password or the session was changed",
        SIGN_IN,
    ),
    (&[70008, 700082], "the refresh token was not used for too long", SIGN_IN),
    (
        &[70043],
        "a sign-in frequency policy ends every session after a time",
        "sign in again with `mailbearer login`, and have the policy changed or use client_credentials",
    ),
    (
        &[700084],
        "the redirect URI is registered as single-page application, whose tokens live 24 hours",
        "register http://localhost under `Mobile and desktop applications` and sign in again",
    ),
    (
        &[50034, 50053, 50055, 50057, 50126, 50144],
        "the mailbox's user is unknown, disabled, locked or has an expired password",
        ASK_ADMIN,
    ),
    (
        &[65001, 65004, 65005, 90094, 650056, 650057],
        "nobody has consented to the permission that is asked for, or it is not on the registration",
        "add the permission (SMTP.Send, or SMTP.SendAsApp for client_credentials) to the \
         registration in Entra and grant consent",
    ),
    (
        &[50105],
        "the user is not assigned to the application",
        "assign the user under Enterprise applications, Users and groups",
    ),
    (
        &[700016, 700011],
        "the application is not in this tenant",
        "compare client_id and tenant with the registration's overview page",
    ),
    (
        &[90002, 90124, 90130],
        "the tenant is unknown, or lives in another cloud",
        "compare tenant with the directory (tenant) id in Entra",
    ),
    (
        &[9001023],
        "client_credentials needs the organisation's own tenant",
        "set tenant to the directory id or a domain of the organisation",
    ),
    (
        &[50020, 50194, 500011, 9002332, 90038],
        "the user or the resource is not in the tenant that was asked",
        "set tenant to the directory id of the mailbox's own organisation",
    ),
    (
        &[7000215, 70002],
        "the client secret is wrong",
        "copy the secret's Value, not its Secret ID, from Certificates & secrets",
    ),
    (
        &[7000222],
        "the client secret has expired",
        "make a new one under Certificates & secrets and put its Value into the configuration",
    ),
    (
        &[7000218],
        "the registration wants a client secret and none was sent",
        "set client_secret, or allow public client flows under Authentication",
    ),
    (
        &[700025],
        "the registration is a public client and a secret was sent",
        "remove client_secret from the configuration",
    ),
    (&[70001, 1000031, 7000112], "the application is disabled in this tenant", ASK_ADMIN),
    (
        &[50011, 500113, 900971],
        "the redirect address is not registered",
        "add http://localhost under Authentication, Mobile and desktop applications",
    ),
    (
        &[28002, 28003, 70011, 700022, 700023],
        "the scope is wrong or names several resources",
        "ask for https://outlook.office.com/SMTP.Send offline_access and for nothing else",
    ),
    (
        &[50147, 54005, 501481],
        "the code of this sign-in was used before or belongs to another one",
        "start the sign-in again",
    ),
    (
        &[50196],
        "the same request was sent too often",
        "wait, and look for a second program that uses the same client and mailbox",
    ),
    (
        &[40010, 50033, 50087, 80002, 90006, 90012, 90024, 90033, 90055, 90090],
        "Entra has a passing fault or is throttling",
        TRY_LATER,
    ),
];

/// Google's error, a part of its description in lower case, the cause and the remedy.
const GOOGLE: &[(&str, &str, &str, &str)] = &[
    (
        "invalid_grant",
        "expired or revoked",
        "the consent ended: revoked, the password changed, six months unused, or the application \
         is in Testing, which ends every consent after seven days",
        "publish the application (or make it Internal) in the Google Cloud console, then sign in \
         again with `mailbearer login`",
    ),
    (
        "invalid_grant",
        "account has been deleted",
        "the Google account was deleted or is suspended",
        "ask the administrator of the Workspace",
    ),
    (
        "invalid_client",
        "the oauth client was not found",
        "the client id is unknown to Google",
        "copy client_id from the Google Cloud console, Credentials",
    ),
    (
        "invalid_request",
        "client_secret is missing",
        "Google wants the client secret of a desktop application as well",
        "set client_secret to the one in the Google Cloud console, Credentials",
    ),
];

/// Errors of RFC 6749, for every provider without better words.
const ANYWHERE: &[(&str, &str, &str)] = &[
    ("invalid_grant", "the consent has ended", SIGN_IN),
    ("interaction_required", "the provider wants to see a person", SIGN_IN),
    (
        "invalid_client",
        "the provider does not know the client id, or its secret is wrong",
        "compare client_id and client_secret with the registration",
    ),
    (
        "unauthorized_client",
        "the registration does not allow this grant",
        "allow it in the registration, or choose another grant",
    ),
    (
        "invalid_scope",
        "the provider does not know a scope, or the registration does not have it",
        "compare the scopes with the provider's documentation",
    ),
    ("access_denied", "the person or the provider declined", "start the sign-in again and accept"),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_number_means_one_thing() {
        let mut seen = HashSet::new();
        for (numbers, cause, remedy) in ENTRA {
            assert!(!cause.is_empty() && !remedy.is_empty());
            for number in *numbers {
                assert!(seen.insert(number), "AADSTS{number} is there twice");
            }
        }
    }

    #[test]
    fn hints_are_found_by_number_then_text_then_error() {
        let cases = [
            ("invalid_client", "AADSTS7000215: Invalid client secret provided.", "secret is wrong"),
            ("invalid_client", "AADSTS7000222: expired keys", "secret has expired"),
            ("invalid_grant", "AADSTS50173: The provided grant has expired", "revoked"),
            ("invalid_grant", "AADSTS4294967296000: huge", "consent has ended"),
            ("invalid_grant", "Token has been expired or revoked.", "Testing"),
            ("invalid_grant", "", "consent has ended"),
            ("interaction_required", "AADSTS50076", "multi-factor"),
        ];
        for (error, description, part) in cases {
            let found = hint(error, description).unwrap();
            assert!(found.to_string().contains(part), "{description}: {found}");
        }
        assert_eq!(hint("something_else", "AADSTS"), None);
    }
}
