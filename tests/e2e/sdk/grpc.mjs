// SPDX-License-Identifier: Apache-2.0
// A server application with flagd's own provider, which speaks gRPC, and a bare client of gRPC for what no provider does.
import { connect as connectHttp2 } from 'node:http2';
import { OpenFeature, ProviderEvents } from '@openfeature/server-sdk';
import { FlagdProvider } from '@openfeature/flagd-provider';
import grpc from '@grpc/grpc-js';
import { details, serve } from './lines.mjs';

const same = (bytes) => bytes;
const clients = new Map();
const calls = new Map();
const events = [];
const sessions = [];

function clientOf(port) {
  if (!clients.has(port)) clients.set(port, new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure()));
  return clients.get(port);
}

function metadataOf(fields) {
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(fields)) metadata.set(name, value);
  return metadata;
}

const options = (seconds) => (seconds ? { deadline: Date.now() + 1000 * seconds } : {});

await serve({
  async connect({ domain, ...words }) {
    await OpenFeature.setProviderAndWait(domain, new FlagdProvider({ host: '127.0.0.1', tls: false, ...words }));
    OpenFeature.getClient(domain).addHandler(ProviderEvents.ConfigurationChanged, (event) =>
      events.push({ domain, flags: event.flagsChanged ?? [] }));
  },
  async evaluate({ domain, ...question }) {
    return details(OpenFeature.getClient(domain), question);
  },
  async until({ domain, value, seconds, ...question }) {
    for (const began = performance.now(); ; ) {
      const found = await details(OpenFeature.getClient(domain), question);
      if (found.value === value) return found;
      if (performance.now() - began > 1000 * seconds) throw new Error(`still ${JSON.stringify(found)}`);
      await new Promise((done) => setTimeout(done, 2));
    }
  },
  // The next change that a provider tells.
  async event({ seconds }) {
    for (const began = performance.now(); events.length === 0; ) {
      if (performance.now() - began > 1000 * seconds) throw new Error('no event');
      await new Promise((done) => setTimeout(done, 2));
    }
    return events.shift();
  },
  // One call: bytes there and back in base64, or how it failed.
  async call({ port, path, body, fields = {}, seconds = 0 }) {
    return new Promise((done) => {
      let headers = {};
      const call = clientOf(port).makeUnaryRequest(path, same, same, Buffer.from(body, 'base64'), metadataOf(fields), options(seconds),
        (error, answer) => done(error ? { code: error.code, details: error.details, headers } : { code: 0, answer: answer.toString('base64'), headers }));
      call.on('metadata', (metadata) => (headers = metadata.getMap()));
    });
  },
  // A server stream that is read from now on.
  async open({ name, port, path, body, fields = {}, seconds = 0 }) {
    const stream = clientOf(port).makeServerStreamRequest(path, same, same, Buffer.from(body, 'base64'), metadataOf(fields), options(seconds));
    const state = { messages: [], status: null, stream };
    stream.on('data', (bytes) => state.messages.push(bytes.toString('base64')));
    stream.on('error', () => {});
    stream.on('status', ({ code, details: text }) => (state.status = { code, details: text }));
    calls.set(name, state);
  },
  // What came on it, once there are so many messages or it has ended.
  async stream({ name, messages = Infinity, seconds }) {
    const state = calls.get(name);
    for (const began = performance.now(); state.messages.length < messages && !state.status; ) {
      if (performance.now() - began > 1000 * seconds) throw new Error(`only ${state.messages.length} messages`);
      await new Promise((done) => setTimeout(done, 2));
    }
    return { messages: state.messages, status: state.status };
  },
  async cancel({ name }) {
    calls.get(name).stream.cancel();
  },
  // A request with any bytes and headers over a session of HTTP/2: its heads, its body and its end.
  async raw({ port, path, body, fields = {}, half = false }) {
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    return new Promise((done) => {
      const found = { headers: null, trailers: null, bytes: '' };
      session.on('error', (error) => done({ ...found, error: error.message }));
      const stream = session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers', ...fields });
      const chunks = [];
      stream.on('response', (headers, flags) => (found.headers = { ...headers, ended: (flags & 1) === 1 }));
      stream.on('trailers', (headers) => (found.trailers = { ...headers }));
      stream.on('data', (bytes) => chunks.push(bytes));
      stream.on('error', (error) => (found.error = error.message));
      stream.on('close', () => {
        session.close();
        done({ ...found, bytes: Buffer.concat(chunks).toString('base64') });
      });
      if (half) stream.write(Buffer.from(body, 'base64'), () => stream.close(8));
      else stream.end(Buffer.from(body, 'base64'));
    });
  },
  // Streams of which nobody ever reads a byte: the window of each is shut.
  async deaf({ port, path, body, count }) {
    const session = connectHttp2(`http://127.0.0.1:${port}`, { settings: { initialWindowSize: 0 } });
    sessions.push(session);
    session.on('error', () => {});
    let heads = 0;
    for (let i = 0; i < count; i++) {
      const stream = session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' });
      stream.on('response', () => heads++);
      stream.on('error', () => {});
      stream.end(Buffer.from(body, 'base64'));
    }
    for (const began = performance.now(); heads < count && performance.now() - began < 60000; )
      await new Promise((done) => setTimeout(done, 5));
    return heads;
  },
  // Requests broken off as soon as they are made, until the server has enough.
  async storm({ port, path, body, most }) {
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    let over = null;
    session.on('goaway', (code) => (over = code));
    session.on('error', () => {});
    let made = 0;
    while (over === null && !session.destroyed && made < most) {
      for (let i = 0; i < 50 && !session.destroyed && over === null; i++, made++) {
        const stream = session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' });
        stream.on('error', () => {});
        stream.write(Buffer.from(body, 'base64'));
        stream.close(8);
      }
      await new Promise((done) => setTimeout(done, 5));
    }
    session.destroy();
    return { made, over };
  },
  async close() {
    await OpenFeature.close();
  },
});
