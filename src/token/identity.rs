//! Whether the right person signed in.
//!
//! Owns [`identify`], which stands between an answer of the token endpoint and the store.

use crate::base::{Secret, Timestamp};
use crate::config::Account;
use crate::oauth::{ExpectedIdToken, identity_scopes, read_id_token};
use crate::token::ConsentError;

/// The scopes of a sign-in: those for mail, and where the provider is known to take them, those
/// that have it say who signed in.
pub(super) fn sign_in_scopes(account: &Account) -> Vec<String> {
    let mut scopes = account.provider.scopes.clone();
    for &scope in identity_scopes(&account.provider.name) {
        if !scopes.iter().any(|known| known == scope) {
            scopes.push(scope.to_owned());
        }
    }
    scopes
}

/// Whoever signed in, if it was who should, or if the provider does not say who it was. A provider
/// that was asked, and is known to answer that, has to: `nonce` is there in a sign-in that asked.
pub(super) fn identify(
    account: &Account,
    id_token: Option<&Secret>,
    nonce: Option<&Secret>,
    now: Timestamp,
) -> Result<Option<String>, ConsentError> {
    let must_say = nonce.is_some() && !identity_scopes(&account.provider.name).is_empty();
    let nobody = || match must_say {
        true => Err(ConsentError::Nobody { provider: account.provider.name.clone() }),
        false => Ok(None),
    };
    let Some(id_token) = id_token else { return nobody() };
    let expected = ExpectedIdToken {
        client_id: &account.client.id,
        issuer: account.provider.issuer.as_deref(),
        nonce,
        now,
    };
    let signed_in = read_id_token(id_token, &expected)?;
    let Some(address) = signed_in.address() else { return nobody() };
    let wanted = account.user().as_str();
    match signed_in.is(wanted) {
        true => Ok(Some(address.to_owned())),
        false => Err(ConsentError::SomebodyElse {
            signed_in: address.to_owned(),
            wanted: wanted.to_owned(),
            mailbox: account.mailbox.as_str().to_owned(),
        }),
    }
}
