// SPDX-License-Identifier: Apache-2.0
// A page: OpenFeature's web SDK with its OFREP provider, which asks for all flags at once and keeps them. What a browser has and Node
// lacks stands here: storage, and an EventSource. Every request is noted with its status, so that what was not asked is seen too.
import { EventSource } from 'eventsource';

const kept = new Map();
globalThis.localStorage = {
  getItem: (key) => kept.get(key) ?? null,
  setItem: (key, value) => void kept.set(key, String(value)),
  removeItem: (key) => void kept.delete(key),
};
globalThis.EventSource = EventSource;

const { OpenFeature, ProviderEvents } = await import('@openfeature/web-sdk');
const { OFREPWebProvider } = await import('@openfeature/ofrep-web-provider');
const { details, serve } = await import('./lines.mjs');

const requests = [];
const events = [];

async function fetchNoted(request, options) {
  const noted = { path: new URL(request.url).pathname, tag: request.headers.get('if-none-match'), at: Date.now(), status: 0 };
  requests.push(noted);
  const answer = await fetch(request, options);
  noted.status = answer.status;
  return answer;
}

for (const name of Object.values(ProviderEvents)) {
  OpenFeature.addHandler(name, (event) => {
    events.push({ name, at: Date.now(), flags: event?.flagsChanged ?? null, message: event?.message ?? null });
  });
}

await serve({
  async connect({ context, ...options }) {
    await OpenFeature.setContext(context);
    await OpenFeature.setProviderAndWait(new OFREPWebProvider({ fetchImplementation: fetchNoted, ...options }));
  },
  async evaluate(question) {
    return details(OpenFeature.getClient(), question);
  },
  async context({ context }) {
    await OpenFeature.setContext(context);
  },
  // Waits for an event that came after the time given.
  async event({ name, after, seconds }) {
    const end = Date.now() + 1000 * seconds;
    for (;;) {
      const found = events.find((event) => event.name === name && event.at >= after);
      if (found) return found;
      if (Date.now() > end) throw new Error(`no ${name} within ${seconds} s; there were ${JSON.stringify(events)}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  },
  async events() {
    return events;
  },
  async requests() {
    return requests.splice(0);
  },
  async close() {
    await OpenFeature.close();
  },
});
