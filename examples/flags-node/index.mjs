// SPDX-License-Identifier: Apache-2.0
// Asks a Sluice daemon for one boolean flag, through OpenFeature's SDK and its OFREP provider:
//     npm install
//     OFREP_URL=http://127.0.0.1:8016 node index.mjs new-checkout user-1 gold
// OFREP_TOKEN, when set, is sent as a bearer token.
import { OpenFeature } from '@openfeature/server-sdk';
import { OFREPProvider } from '@openfeature/ofrep-provider';

const [flag = 'new-checkout', user = 'user-1', plan = 'free'] = process.argv.slice(2);
const baseUrl = process.env.OFREP_URL;
if (!baseUrl) {
  console.error('OFREP_URL says where the daemon answers, such as http://127.0.0.1:8016');
  process.exit(2);
}
const token = process.env.OFREP_TOKEN;
const headers = token ? [['Authorization', `Bearer ${token}`]] : [];

await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl, headers }));
const client = OpenFeature.getClient();
const details = await client.getBooleanDetails(flag, false, { targetingKey: user, plan });
console.log(JSON.stringify({
  flag,
  value: details.value,
  variant: details.variant,
  reason: details.reason,
  errorCode: details.errorCode,
  errorMessage: details.errorMessage,
  flagMetadata: details.flagMetadata,
}));
await OpenFeature.close();
