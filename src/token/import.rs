//! A refresh token that was obtained elsewhere.
//!
//! Owns [`import_grant`]: it is tried once, and stored only if it brought an access token.

use std::sync::Arc;

use crate::base::{Clock, Secret};
use crate::config::Account;
use crate::net::{HttpClient, HttpPatience};
use crate::oauth::refresh_request;
use crate::store::{NewGrant, Origin, Store};
use crate::token::binding::binding;
use crate::token::consent::put_grant;
use crate::token::identity::identify;
use crate::token::manager::exchange;
use crate::token::pace::TokenPace;
use crate::token::{ConsentError, Consented};

/// Renews once with this refresh token and stores what comes, in the place of what is there.
pub async fn import_grant(
    account: &Arc<Account>,
    store: &Store,
    clock: &Clock,
    refresh_token: Secret,
) -> Result<Consented, ConsentError> {
    let Account { provider, client, name, grant, .. } = &**account;
    if !grant.needs_sign_in() {
        return Err(ConsentError::NotNeeded { account: name.clone(), grant: *grant });
    }
    let http = HttpClient::new(provider.ca_file.as_deref(), HttpPatience::default())?;
    let asked_at = clock.now();
    let request = refresh_request(&provider.token_url, client, &refresh_token)?;
    let answer = exchange(&http, request).await?;
    let signed_in = identify(account, answer.id_token.as_ref(), None, clock.now())?;
    let expires_at = asked_at + TokenPace::life(answer.expires_in);
    let generation = put_grant(
        store,
        name.as_str(),
        NewGrant {
            refresh_token: answer.refresh_token.or(Some(refresh_token)),
            access_token: Some(answer.access_token),
            expires_at: Some(expires_at),
            obtained_at: asked_at,
            obtained_by: signed_in.clone(),
            retired: None,
            origin: Some(Origin {
                how: "import".to_owned(),
                at: asked_at,
                bound_to: binding(account),
            }),
        },
    )
    .await?;
    tracing::info!(account = %name, event = "imported", %expires_at, "token");
    Ok(Consented { account: name.clone(), signed_in, expires_at, generation })
}
