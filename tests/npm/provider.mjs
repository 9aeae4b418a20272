// A real OpenID provider for the tests, on loopback: `node provider.mjs PORT KID…`. It has an RSA key of each name and signs
// with the first. Its one client, `app` with the secret `secret`, gets access tokens without a browser. It prints `ready` when
// it accepts requests, and exits when its standard input is closed, which also happens when the process that started it ends.

import { generateKeyPairSync } from "node:crypto";
import Provider from "oidc-provider";

const [port, ...names] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;

const keys = names.map((kid) => {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return { ...privateKey.export({ format: "jwk" }), kid, alg: "RS256", use: "sig" };
});

const provider = new Provider(issuer, {
  jwks: { keys },
  cookies: { keys: ["of no use here"] },
  clients: [
    { client_id: "app", client_secret: "secret", grant_types: ["client_credentials"], redirect_uris: [], response_types: [] },
  ],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      // The audience is the requested resource.
      getResourceServerInfo: (_context, resource) => ({
        scope: "",
        audience: resource,
        accessTokenTTL: 600,
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
});

process.stdin.resume().on("end", () => process.exit());
provider.listen(Number(port), "127.0.0.1", () => console.log("ready")).on("error", () => process.exit(1));
