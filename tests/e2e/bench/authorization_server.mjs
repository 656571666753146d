// The authorization server of the end-to-end tests: oidc-provider (certified, not ours), dressed like Entra ID.
//
//   node authorization_server.mjs SETTINGS.json
//
// Only the dress is written here: paths and token sizes as Entra ID has them, the mailbox that a token speaks for, a
// sign-in page that a script can pass, and a small control interface that only the test bench uses.
//
// Settings: issuer, port, host, certificate and key (files), tenant, modules (the folder with node_modules),
// mailboxes (list of addresses), scopes (list), introspector {id, secret}, and
// clients: [{id, secret?, grants, mailbox?, access_token_seconds}].

import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const installed = createRequire(`${settings.modules}/`);
const { Provider } = await import(pathToFileURL(installed.resolve('oidc-provider')));

// An access token of Entra ID has some 1,600 characters. Short ones would hide every fault with long AUTH lines.
const ACCESS_TOKEN_BITS = 1600 * 6;
const OTHER_TOKEN_BITS = 256;

const clientSettings = new Map(settings.clients.map((client) => [client.id, client]));
const epochSeconds = () => Math.floor(Date.now() / 1000); // as oidc-provider counts
const isAccessToken = (model) => model.kind === 'AccessToken' || model.kind === 'ClientCredentials';
const accessTokenSeconds = (_context, _token, client) => clientSettings.get(client.clientId).access_token_seconds;

const provider = new Provider(settings.issuer, {
  clients: [...settings.clients.map(registration), introspectorRegistration(settings.introspector)],
  scopes: ['openid', 'offline_access', ...settings.scopes],
  routes: {
    authorization: `/${settings.tenant}/oauth2/v2.0/authorize`,
    token: `/${settings.tenant}/oauth2/v2.0/token`,
    device_authorization: `/${settings.tenant}/oauth2/v2.0/devicecode`,
    code_verification: '/devicelogin',
    introspection: '/introspect',
    revocation: '/revoke',
  },
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    devInteractions: { enabled: false },
    revocation: { enabled: true },
    introspection: { enabled: true, allowedPolicy: (_context, client) => client.clientId === settings.introspector.id },
  },
  formats: {
    bitsOfOpaqueRandomness: (_context, model) => (isAccessToken(model) ? ACCESS_TOKEN_BITS : OTHER_TOKEN_BITS),
  },
  ttl: { AccessToken: accessTokenSeconds, ClientCredentials: accessTokenSeconds, Interaction: 600, Session: 3600 },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  // As with Entra ID, the ID token itself names the person.
  claims: { email: ['email'] },
  conformIdTokenClaims: false,
  findAccount: (_context, id) => {
    const isKnown = settings.mailboxes.includes(id);
    return isKnown ? { accountId: id, claims: () => ({ sub: id, email: id }) } : undefined;
  },
  // What introspection tells the mail server: the mailbox that this token speaks for.
  extraTokenClaims: (_context, token) => ({ username: token.accountId ?? clientSettings.get(token.clientId).mailbox }),
  interactions: { url: (_context, interaction) => `/interaction/${interaction.uid}` },
  renderError: (context, error) => {
    context.type = 'text';
    context.body = `${error.error}: ${error.error_description}`;
  },
  cookies: { keys: ['a key for tests only'] },
});

function registration({ id, secret, grants }) {
  return {
    client_id: id,
    client_secret: secret ?? undefined,
    token_endpoint_auth_method: secret ? 'client_secret_post' : 'none',
    application_type: 'native',
    grant_types: grants,
    response_types: grants.includes('authorization_code') ? ['code'] : [],
    redirect_uris: grants.includes('authorization_code') ? settings.redirect_uris : [],
    id_token_signed_response_alg: 'RS256',
  };
}

function introspectorRegistration({ id, secret }) {
  return {
    client_id: id,
    client_secret: secret,
    token_endpoint_auth_method: 'client_secret_basic',
    grant_types: [],
    response_types: [],
    redirect_uris: [],
  };
}

// OpenID Connect gives a refresh token only with prompt=consent; Entra ID whenever offline_access is asked for.
provider.use(async (context, next) => {
  const asksOffline = (context.query.scope ?? '').split(' ').includes('offline_access');
  if (context.path.endsWith('/authorize') && asksOffline && !context.query.prompt) {
    context.query = { ...context.query, prompt: 'consent' };
  }
  await next();
});

// --- What happened, for the test bench ----------------------------------------------------------------------------

const grants = []; // { client, grant, error? } in the order of the token endpoint's answers
const accessTokens = []; // { client, token, expires }

const requested = (context) => ({ client: context.oidc.client?.clientId, grant: context.oidc.params?.grant_type });
provider.on('grant.success', (context) => grants.push(requested(context)));
provider.on('grant.error', (context, error) => grants.push({ ...requested(context), error: error.error }));
for (const event of ['access_token.saved', 'client_credentials.saved']) {
  provider.on(event, (token) => {
    accessTokens.push({ client: token.clientId, token, expires: epochSeconds() + token.expiration });
  });
}

const ofClient = (list, client) => list.filter((entry) => entry.client === client);

async function control(url, response) {
  const client = url.searchParams.get('client');
  switch (url.pathname) {
    case '/control/state':
      return json(response, {
        grants: ofClient(grants, client),
        access_tokens_expire_at: Math.max(0, ...ofClient(accessTokens, client).map((entry) => entry.expires)),
      });
    case '/control/revoke-access-tokens':
      await Promise.all(ofClient(accessTokens, client).map((entry) => entry.token.destroy()));
      return json(response, {});
    default:
      response.writeHead(404).end();
  }
}

function json(response, value) {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

// --- Sign-in and consent ------------------------------------------------------------------------------------------

async function interact(request, response, url) {
  const interaction = await provider.interactionDetails(request, response);
  if (interaction.prompt.name === 'consent') {
    const grantId = await consentToEverything(interaction);
    return provider.interactionFinished(request, response, { consent: { grantId } }, { mergeWithLastSubmission: true });
  }
  const mailbox = url.searchParams.get('mailbox') ?? interaction.params.login_hint;
  if (!settings.mailboxes.includes(mailbox)) return signInPage(response);
  return provider.interactionFinished(request, response, { login: { accountId: mailbox } });
}

async function consentToEverything({ params, session, grantId }) {
  const grant = grantId
    ? await provider.Grant.find(grantId)
    : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  return grant.save();
}

function signInPage(response) {
  const buttons = settings.mailboxes
    .map((mailbox) => `<button name="mailbox" value="${mailbox}">${mailbox}</button>`)
    .join('\n');
  response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' });
  response.end(`<!doctype html><title>Sign in</title><h1>Pick an account</h1><form method="get">\n${buttons}\n</form>`);
}

// --- The server ---------------------------------------------------------------------------------------------------

const answerProtocol = provider.callback();

async function answer(request, response) {
  const url = new URL(request.url, settings.issuer);
  try {
    if (url.pathname.startsWith('/control/')) return await control(url, response);
    if (url.pathname.startsWith('/interaction/')) return await interact(request, response, url);
    return answerProtocol(request, response);
  } catch (error) {
    console.error(error);
    response.writeHead(400, { 'content-type': 'text/plain' }).end(String(error));
  }
}

provider.on('server_error', (_context, error) => console.error(error));
const tls = { cert: readFileSync(settings.certificate), key: readFileSync(settings.key) };
createServer(tls, answer).listen(settings.port, settings.host, () => console.log('ready'));
