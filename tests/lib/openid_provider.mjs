// A certified OpenID provider (npm's oidc-provider) with two people: ann, who is in the group builders, and bob, who isn't. Its
// keys are made when it starts and kept nowhere, so that one that is started again has others.
//
// usage: node openid_provider.mjs NODE_MODULES PORT SECRET CALLBACK...
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { pathToFileURL } from 'node:url';

const [modules, port, secret, ...callbacks] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(`${modules}/oidc-provider/lib/index.js`).href);

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const key = { ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid: randomBytes(4).toString('hex') };

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{ client_id: 'registry', client_secret: secret, redirect_uris: callbacks, response_types: ['code'], grant_types: ['authorization_code'] }],
  jwks: { keys: [key] },
  cookies: { keys: [randomBytes(16).toString('hex')] },
  pkce: { required: () => true },
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['groups'] },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: `${id}@example.org`, email_verified: true, groups: id === 'ann' ? ['builders'] : [] }),
  }),
});
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
