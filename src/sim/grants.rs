//! What the simulated authorization server has given out: codes, refresh tokens, access tokens.
//!
//! Owns [`Grants`] and its rules: a code is good once, for its client, its redirect URI and its
//! PKCE verifier; using a code or a rotated refresh token again revokes everything of the same
//! consent; an access token is good for one user, one scope and one lifetime. Sources: RFC 6749
//! §4.1.2 and §10.4, RFC 7636 §4.6, RFC 9700 §4.14.

use std::collections::HashMap;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use ring::digest;

use crate::base::Timestamp;
use crate::sim::options::{RefreshRule, SimOptions};

/// How long a code is good: Entra ID's ten minutes.
const CODE_LIFE: std::time::Duration = std::time::Duration::from_secs(600);

/// Everything that was given out.
#[derive(Debug, Default)]
pub(super) struct Grants {
    codes: HashMap<String, Code>,
    refresh: HashMap<String, Refresh>,
    access: HashMap<String, Access>,
    consents: u64,
}

/// What a person agreed to on the authorization page.
#[derive(Clone, Debug)]
pub(super) struct Consent {
    pub(super) user: String,
    pub(super) client: String,
    pub(super) redirect_uri: String,
    pub(super) challenge: String,
    pub(super) scope: String,
    pub(super) nonce: Option<String>,
}

#[derive(Debug)]
struct Code {
    consent: Consent,
    number: u64,
    expires_at: Timestamp,
    is_spent: bool,
}

#[derive(Debug)]
struct Refresh {
    user: String,
    client: String,
    scope: String,
    consent: u64,
    is_spent: bool,
    is_revoked: bool,
}

#[derive(Debug)]
struct Access {
    /// `None`: of an application, good for every mailbox that is open to applications.
    user: Option<String>,
    scope: String,
    consent: u64,
    expires_at: Timestamp,
    is_revoked: bool,
}

/// What an answer of the token endpoint brings.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) user: Option<String>,
    pub(super) scope: String,
    pub(super) access_token: String,
    pub(super) refresh_token: Option<String>,
    /// For the ID token of a code.
    pub(super) nonce: Option<String>,
}

/// Why nothing is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    UnknownCode,
    CodeExpired,
    CodeReused,
    OtherClient,
    RedirectMismatch,
    VerifierMismatch,
    UnknownRefreshToken,
    Revoked,
    RefreshReused,
    ScopeNotGranted,
    UnknownDeviceCode,
    DeviceCodeExpired,
    Pending,
    SlowDown,
    Declined,
}

impl Grants {
    /// A code for a consent.
    pub(super) fn issue_code(&mut self, consent: Consent, now: Timestamp) -> String {
        self.consents += 1;
        let code = format!("1.{}", random_text(200));
        let expires_at = now + CODE_LIFE;
        let number = self.consents;
        self.codes.insert(code.clone(), Code { consent, number, expires_at, is_spent: false });
        code
    }

    /// Redeems a code.
    pub(super) fn redeem(
        &mut self,
        options: &SimOptions,
        code: &str,
        client: &str,
        redirect_uri: &str,
        verifier: &str,
        now: Timestamp,
    ) -> Result<Issued, Denied> {
        let known = self.codes.get_mut(code).ok_or(Denied::UnknownCode)?;
        let number = known.number;
        if known.is_spent {
            self.revoke_consent(number);
            return Err(Denied::CodeReused);
        }
        let consent = known.consent.clone();
        if consent.client != client {
            return Err(Denied::OtherClient);
        }
        known.is_spent = true;
        if known.expires_at <= now {
            return Err(Denied::CodeExpired);
        }
        if consent.redirect_uri != redirect_uri {
            return Err(Denied::RedirectMismatch);
        }
        if challenge_of(verifier) != consent.challenge {
            return Err(Denied::VerifierMismatch);
        }
        let issued = self.issue(options, &consent.user, client, &consent.scope, number, now);
        Ok(Issued { nonce: consent.nonce, ..issued })
    }

    /// Renews by a refresh token, with the same scope or less.
    pub(super) fn renew(
        &mut self,
        options: &SimOptions,
        token: &str,
        client: &str,
        scope: Option<&str>,
        now: Timestamp,
    ) -> Result<Issued, Denied> {
        let known = self.refresh.get_mut(token).ok_or(Denied::UnknownRefreshToken)?;
        let (number, user) = (known.consent, known.user.clone());
        if known.client != client {
            return Err(Denied::OtherClient);
        }
        if known.is_revoked {
            return Err(Denied::Revoked);
        }
        if known.is_spent {
            self.revoke_consent(number);
            return Err(Denied::RefreshReused);
        }
        let granted = known.scope.clone();
        let wanted = scope.unwrap_or(&granted);
        if wanted.split_whitespace().any(|word| !has_word(&granted, word)) {
            return Err(Denied::ScopeNotGranted);
        }
        known.is_spent = options.refresh_rule == RefreshRule::RotateAndDetectReuse;
        let mut issued = self.issue(options, &user, client, &granted, number, now);
        if let Some(access) = self.access.get_mut(&issued.access_token) {
            access.scope = wanted.to_owned();
        }
        issued.scope = wanted.to_owned();
        if options.refresh_rule == RefreshRule::Keep
            && let Some(unused) = issued.refresh_token.take()
        {
            self.refresh.remove(&unused);
        }
        Ok(issued)
    }

    /// Access and refresh token of a consent that nobody was asked for.
    pub(super) fn issue_to(
        &mut self,
        options: &SimOptions,
        user: &str,
        client: &str,
        scope: &str,
        now: Timestamp,
    ) -> Issued {
        self.consents += 1;
        self.issue(options, user, client, scope, self.consents, now)
    }

    /// An access token of an application.
    pub(super) fn issue_to_app(
        &mut self,
        options: &SimOptions,
        scope: &str,
        now: Timestamp,
    ) -> Issued {
        self.consents += 1;
        let access_token = self.issue_access(options, None, scope, self.consents, now);
        Issued {
            user: None,
            scope: scope.to_owned(),
            access_token,
            refresh_token: None,
            nonce: None,
        }
    }

    /// True if this token lets this mailbox send now.
    pub(super) fn opens(
        &self,
        options: &SimOptions,
        token: &str,
        mailbox: &str,
        now: Timestamp,
    ) -> bool {
        let Some(access) = self.access.get(token) else { return false };
        let Some(mailbox) = options.user(mailbox) else { return false };
        let (is_theirs, scopes) = match &access.user {
            Some(user) => (user.eq_ignore_ascii_case(&mailbox.mailbox), options.delegated_scopes()),
            None => (mailbox.open_to_apps, options.app_scopes()),
        };
        is_theirs
            && !access.is_revoked
            && now < access.expires_at
            && scopes.iter().any(|scope| has_word(&access.scope, scope))
    }

    /// Makes the access tokens of a user (or of everybody, and of applications) useless from now on.
    pub(super) fn expire_access(&mut self, user: Option<&str>, now: Timestamp) {
        for access in self.access.values_mut() {
            if is_of(access.user.as_deref(), user) {
                access.expires_at = access.expires_at.min(now);
            }
        }
    }

    /// Revokes access tokens.
    pub(super) fn revoke_access(&mut self, user: Option<&str>) {
        for access in self.access.values_mut() {
            access.is_revoked |= is_of(access.user.as_deref(), user);
        }
    }

    /// Revokes refresh tokens.
    pub(super) fn revoke_refresh(&mut self, user: Option<&str>) {
        for refresh in self.refresh.values_mut() {
            refresh.is_revoked |= is_of(Some(&refresh.user), user);
        }
    }

    /// Whose code or refresh token this is.
    pub(super) fn user_of(&self, code_or_token: &str) -> Option<&str> {
        let by_code = self.codes.get(code_or_token).map(|code| code.consent.user.as_str());
        by_code.or_else(|| self.refresh.get(code_or_token).map(|refresh| refresh.user.as_str()))
    }

    fn issue(
        &mut self,
        options: &SimOptions,
        user: &str,
        client: &str,
        scope: &str,
        consent: u64,
        now: Timestamp,
    ) -> Issued {
        let access_token = self.issue_access(options, Some(user), scope, consent, now);
        let is_lasting =
            has_word(scope, "offline_access") || options.flavour == super::options::Flavour::Gmail;
        let refresh_token = is_lasting.then(|| {
            let token = format!("1.{}", random_text(900));
            let refresh = Refresh {
                user: user.to_owned(),
                client: client.to_owned(),
                scope: scope.to_owned(),
                consent,
                is_spent: false,
                is_revoked: false,
            };
            self.refresh.insert(token.clone(), refresh);
            token
        });
        Issued {
            user: Some(user.to_owned()),
            scope: scope.to_owned(),
            access_token,
            refresh_token,
            nonce: None,
        }
    }

    fn issue_access(
        &mut self,
        options: &SimOptions,
        user: Option<&str>,
        scope: &str,
        consent: u64,
        now: Timestamp,
    ) -> String {
        let token = random_text(options.access_token_characters);
        let access = Access {
            user: user.map(str::to_owned),
            scope: scope.to_owned(),
            consent,
            expires_at: now + options.access_token_lifetime,
            is_revoked: false,
        };
        self.access.insert(token.clone(), access);
        token
    }

    fn revoke_consent(&mut self, consent: u64) {
        for access in self.access.values_mut().filter(|access| access.consent == consent) {
            access.is_revoked = true;
        }
        for refresh in self.refresh.values_mut().filter(|refresh| refresh.consent == consent) {
            refresh.is_revoked = true;
        }
    }
}

/// The S256 challenge of a verifier: RFC 7636 §4.2.
pub(super) fn challenge_of(verifier: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

/// Random text of the URL-safe base64 alphabet.
pub(super) fn random_text(characters: usize) -> String {
    let mut bytes = vec![0; characters * 3 / 4 + 1];
    getrandom::fill(&mut bytes)
        .expect("the operating system always has random numbers once it has booted");
    let mut text = BASE64_URL_SAFE_NO_PAD.encode(bytes);
    text.truncate(characters);
    text
}

/// A GUID.
pub(super) fn random_guid() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .expect("the operating system always has random numbers once it has booted");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn is_of(owner: Option<&str>, wanted: Option<&str>) -> bool {
    match (owner, wanted) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(owner), Some(wanted)) => owner.eq_ignore_ascii_case(wanted),
    }
}

fn has_word(scope: &str, word: &str) -> bool {
    scope.split_whitespace().any(|known| known.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sim::options::SimUser;

    const NOW: Timestamp = Timestamp::from_millis(1_795_436_435_000);
    const USER: &str = "scanner@contoso.com";
    const SCOPE: &str = "https://outlook.office.com/SMTP.Send offline_access";
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

    fn consent() -> Consent {
        Consent {
            user: USER.to_owned(),
            client: "c".to_owned(),
            redirect_uri: "http://127.0.0.1:1/".to_owned(),
            challenge: challenge_of(VERIFIER),
            scope: SCOPE.to_owned(),
            nonce: None,
        }
    }

    #[test]
    fn the_challenge_is_that_of_rfc_7636_appendix_b() {
        assert_eq!(challenge_of(VERIFIER), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn a_code_is_good_once_and_for_what_it_was_given() {
        let (options, uri) = (SimOptions::default(), "http://127.0.0.1:1/");
        let late = NOW + Duration::from_secs(600);
        for (client, redirect, verifier, now, expected) in [
            ("other", uri, VERIFIER, NOW, Denied::OtherClient),
            ("c", "http://127.0.0.1:2/", VERIFIER, NOW, Denied::RedirectMismatch),
            ("c", uri, "wrong", NOW, Denied::VerifierMismatch),
            ("c", uri, VERIFIER, late, Denied::CodeExpired),
        ] {
            let mut grants = Grants::default();
            let code = grants.issue_code(consent(), NOW);
            let denied = grants.redeem(&options, &code, client, redirect, verifier, now);
            assert_eq!(denied.unwrap_err(), expected);
        }
        let mut grants = Grants::default();
        let code = grants.issue_code(consent(), NOW);
        let issued = grants.redeem(&options, &code, "c", uri, VERIFIER, NOW).unwrap();
        assert_eq!(issued.access_token.len(), options.access_token_characters);
        assert!(grants.opens(&options, &issued.access_token, USER, NOW));
        let again = grants.redeem(&options, &code, "c", uri, VERIFIER, NOW);
        assert_eq!(again.unwrap_err(), Denied::CodeReused);
        assert!(!grants.opens(&options, &issued.access_token, USER, NOW), "revoked by the reuse");
        let unknown = grants.redeem(&options, "x", "c", uri, VERIFIER, NOW);
        assert_eq!(unknown.unwrap_err(), Denied::UnknownCode);
    }

    #[test]
    fn rules_for_used_refresh_tokens() {
        for rule in
            [RefreshRule::RotateAndDetectReuse, RefreshRule::RotateAndKeep, RefreshRule::Keep]
        {
            let options = SimOptions { refresh_rule: rule, ..SimOptions::default() };
            let mut grants = Grants::default();
            let first = grants.issue_to(&options, USER, "c", SCOPE, NOW).refresh_token.unwrap();
            let second = grants.renew(&options, &first, "c", None, NOW).unwrap().refresh_token;
            assert_eq!(second.is_none(), rule == RefreshRule::Keep);
            let again = grants.renew(&options, &first, "c", None, NOW).map(|_| ());
            let by_second =
                grants.renew(&options, second.as_ref().unwrap_or(&first), "c", None, NOW);
            match rule {
                RefreshRule::RotateAndDetectReuse => {
                    assert_eq!(again, Err(Denied::RefreshReused));
                    assert_eq!(by_second.unwrap_err(), Denied::Revoked);
                }
                RefreshRule::RotateAndKeep | RefreshRule::Keep => {
                    assert_eq!(again, Ok(()));
                    assert!(by_second.is_ok());
                }
            }
        }
    }

    #[test]
    fn renewing_can_narrow_the_scope_but_not_widen_it() {
        let options =
            SimOptions { refresh_rule: RefreshRule::RotateAndKeep, ..SimOptions::default() };
        let mut grants = Grants::default();
        let token = grants.issue_to(&options, USER, "c", SCOPE, NOW).refresh_token.unwrap();
        for (scope, is_granted) in [
            (SCOPE, true),
            ("offline_access", true),
            ("https://graph.microsoft.com/Mail.Send", false),
        ] {
            let renewed = grants.renew(&options, &token, "c", Some(scope), NOW);
            assert_eq!(renewed.is_ok(), is_granted, "{scope}");
        }
        let other = grants.renew(&options, &token, "other", None, NOW);
        assert_eq!(other.unwrap_err(), Denied::OtherClient);
    }

    #[test]
    fn what_opens_a_mailbox() {
        let mut closed = SimUser::new("closed@contoso.com");
        closed.open_to_apps = false;
        let mut options = SimOptions::default();
        options.users.push(closed);
        let mut grants = Grants::default();
        let token = grants.issue_to(&options, USER, "c", SCOPE, NOW).access_token;
        let graph = "https://graph.microsoft.com/SMTP.Send";
        let graph = grants.issue_to(&options, USER, "c", graph, NOW).access_token;
        let app = grants.issue_to_app(&options, options.app_scopes()[0], NOW).access_token;
        let late = NOW + options.access_token_lifetime;
        for (token, user, now, opens) in [
            (&token, USER, NOW, true),
            (&token, "SCANNER@contoso.com", NOW, true),
            (&token, "erp@contoso.com", NOW, false),
            (&token, "nobody@contoso.com", NOW, false),
            (&token, USER, late, false),
            (&graph, USER, NOW, false),
            (&app, USER, NOW, true),
            (&app, "erp@contoso.com", NOW, true),
            (&app, "closed@contoso.com", NOW, false),
        ] {
            assert_eq!(grants.opens(&options, token, user, now), opens, "{user}");
        }
        grants.revoke_access(Some(USER));
        assert!(!grants.opens(&options, &token, USER, NOW));
        assert!(grants.opens(&options, &app, USER, NOW));
        grants.expire_access(None, NOW);
        assert!(!grants.opens(&options, &app, USER, NOW));
    }
}
