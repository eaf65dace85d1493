// SPDX-License-Identifier: Apache-2.0
// A server application: OpenFeature's SDK with the OFREP provider, one domain for each connection that is ordered.
import { OpenFeature } from '@openfeature/server-sdk';
import { OFREPProvider } from '@openfeature/ofrep-provider';
import { details, serve } from './lines.mjs';

await serve({
  async connect({ domain, baseUrl, headers = [] }) {
    await OpenFeature.setProviderAndWait(domain, new OFREPProvider({ baseUrl, headers }));
  },
  async evaluate({ domain, ...question }) {
    return details(OpenFeature.getClient(domain), question);
  },
  // Asks again and again until the answer is this one; how long that took, and how often it was asked.
  async until({ domain, value, seconds, ...question }) {
    const began = performance.now();
    for (let asked = 1; ; asked++) {
      const found = await details(OpenFeature.getClient(domain), question);
      const ms = performance.now() - began;
      if (found.value === value) return { ms, asked, found };
      if (ms > 1000 * seconds) throw new Error(`still ${JSON.stringify(found)} after ${asked} evaluations`);
    }
  },
  // As many at once as a busy server asks.
  async many({ domain, count, ...question }) {
    const client = OpenFeature.getClient(domain);
    const began = performance.now();
    const answers = await Promise.all(Array.from({ length: count }, (_, i) =>
      details(client, { ...question, context: { ...question.context, targetingKey: `user-${i}` } })));
    return { ms: performance.now() - began, answers };
  },
  async close() {
    await OpenFeature.close();
  },
});
