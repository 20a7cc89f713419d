// An identity provider for the tests of the OAuth front: authorization code with PKCE, refresh tokens that rotate, and the resource indicators of RFC 8707,
// of which it knows one. Usage: node server.mjs PORT RESOURCE CLIENT REDIRECT. It listens on loopback, and says on standard output what it is asked.
import { createServer } from 'node:http';
import Provider, { errors } from 'oidc-provider';

const [port, resource, client, redirect] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;

const provider = new Provider(issuer, {
  clients: [{
    client_id: client,
    application_type: 'native',
    token_endpoint_auth_method: 'none',
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    redirect_uris: [redirect],
  }],
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  extraTokenClaims: (ctx, token) => ({ upn: token.accountId }),
  issueRefreshToken: (ctx, c) => c.grantTypeAllowed('refresh_token'),
  rotateRefreshToken: true,
  pkce: { required: () => true },
  ttl: { AccessToken: 3600 },
  features: {
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, indicator) => {
        if (indicator !== resource) throw new errors.InvalidTarget();
        return { scope: '', audience: resource, accessTokenFormat: 'jwt', accessTokenTTL: 3600, jwt: { sign: { alg: 'RS256' } } };
      },
    },
  },
});

const answer = provider.callback();
createServer((req, res) => {
  console.log(`seen ${req.method} ${req.url.split('?')[0]}`);
  answer(req, res);
}).listen(Number(port), '127.0.0.1', () => console.log('ready'));
