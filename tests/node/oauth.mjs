// The TypeScript SDKs' own OAuth clients: node oauth.mjs 1|2 URL legacy|sse|2026-07-28 [CLIENT_METADATA_URL|dpop].
// It lists tools and calls "read" and "write"; whoever is asked for consent agrees. Prints one JSON object.
import * as sdk1 from "@modelcontextprotocol/sdk/client/index.js";
import * as sse1 from "@modelcontextprotocol/sdk/client/sse.js";
import * as http1 from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import * as sdk2 from "@modelcontextprotocol/client";

const [which, url, mode, extra] = process.argv.slice(2);
const sdk = which === "1" ? { ...sdk1, ...sse1, ...http1 } : sdk2;
const Transport = mode === "sse" ? sdk.SSEClientTransport : sdk.StreamableHTTPClientTransport;
const CALLBACK = "http://127.0.0.1:1/callback";

const kept = {};
const proofs = extra === "dpop" ? await sdk2.DpopSession.create() : undefined;
let consent = null; // what came to the redirect URI
const provider = {
  redirectUrl: CALLBACK,
  clientMetadataUrl: extra?.startsWith("https:") ? extra : undefined,
  clientMetadata: {
    redirect_uris: [CALLBACK],
    client_name: "test",
    // With a refresh token, 1.x refreshes where it is told to ask for more scopes, and gets no more.
    grant_types: which === "1" ? ["authorization_code"] : ["authorization_code", "refresh_token"],
    token_endpoint_auth_method: "none",
  },
  clientInformation: () => kept.client,
  saveClientInformation: (client) => void (kept.client = client),
  tokens: () => kept.tokens,
  saveTokens: (tokens) => void (kept.tokens = tokens),
  saveCodeVerifier: (verifier) => void (kept.verifier = verifier),
  codeVerifier: () => kept.verifier,
  redirectToAuthorization: async (page) => {
    const answer = await fetch(page, { redirect: "manual" });
    consent = new URL(answer.headers.get("location")).searchParams;
  },
};
if (proofs) provider.dpop = () => proofs;

// Do something with a client that is connected, again after each consent, as the SDK's examples do.
async function withConsent(work) {
  for (let attempt = 0; ; attempt++) {
    const client = new sdk.Client({ name: "ts-oauth", version: "1.0.0" }, options());
    const transport = new Transport(new URL(url), { authProvider: provider });
    try {
      await client.connect(transport);
      return await work(client);
    } catch (error) {
      if (consent === null || attempt === 3) throw error;
      await transport.finishAuth(which === "1" ? consent.get("code") : consent);
      consent = null;
    } finally {
      await client.close();
    }
  }
}

function options() {
  if (which === "1") return {};
  return { versionNegotiation: { mode: mode.startsWith("2") ? { pin: mode } : "legacy" } };
}

const tools = await withConsent(async (client) => (await client.listTools()).tools.map((tool) => tool.name));
const called = {};
for (const name of ["read", "write"]) {
  try {
    const call = (client) => client.callTool({ name, arguments: {} });
    called[name] = (await withConsent(call)).content[0].text;
  } catch (error) {
    called[name] = `${error.constructor.name}: ${error.message}`;
  }
}
console.log(JSON.stringify({ tools, called, tokenType: kept.tokens?.token_type }));
process.exit(0);
