// SPDX-License-Identifier: Apache-2.0
// Origins of HTTP/2 by Node, and a gRPC service and its client by grpc-js; see http2_origin_test.py.
import { readFileSync } from 'node:fs';
import { createSecureServer, createServer } from 'node:http2';
import { createServer as createHttp1 } from 'node:https';
import grpc from '@grpc/grpc-js';
import { serve } from './lines.mjs';

const same = (bytes) => bytes;
const method = (path, requestStream, responseStream) => ({ path, requestStream, responseStream,
  requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same });
const ECHO = { unary: method('/test.Echo/Unary', false, false), both: method('/test.Echo/Both', true, true) };
let cancelled = 0;
let sessions = 0;

// Answers what came: its fields, and the length of its body.
function answer(request, response) {
  let bytes = 0;
  request.on('aborted', () => cancelled++);
  request.on('data', (data) => (bytes += data.length));
  request.on('end', () => {
    if (request.url === '/never') return;
    if (request.url === '/empty') return response.writeHead(204).end();
    if (request.url.startsWith('/big/')) return response.end(Buffer.alloc(Number(request.url.slice(5)), 'x'));
    if (request.url === '/trailers') response.addTrailers({ 'x-sum': '7' });
    response.end(JSON.stringify({ bytes, method: request.method, version: request.httpVersion, fields: request.headers }));
  });
}

function listen(server, port) {
  server.on('session', () => sessions++);
  return new Promise((done) => server.listen(port, '127.0.0.1', () => done({})));
}

const service = (code) => ({
  unary(call, done) {
    if (code !== 0) return done({ code, details: 'as told' });
    const trailer = new grpc.Metadata();
    trailer.set('x-after', '1');
    done(null, Buffer.concat([call.request, Buffer.from(String(call.getDeadline() instanceof Date || Number.isFinite(call.getDeadline())))]), trailer);
  },
  both(call) {
    call.on('data', (bytes) => call.write(bytes));
    call.on('end', () => call.end());
  },
});

await serve({
  plain: ({ port }) => listen(createServer(answer), port),
  secure: ({ port, pem, key, http1 }) => listen((http1 ? createHttp1 : createSecureServer)(
    { cert: readFileSync(pem), key: readFileSync(key) }, answer), port),
  counts: () => ({ cancelled, sessions }),
  grpc({ port, code = 0 }) {
    const server = new grpc.Server();
    server.addService(ECHO, service(code));
    return new Promise((done, fail) => server.bindAsync(`127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(),
      (error) => (error ? fail(error) : done({}))));
  },
  unary({ port, text }) {
    const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
    return new Promise((done) => {
      let found;
      client.makeUnaryRequest(ECHO.unary.path, same, same, Buffer.from(text), new grpc.Metadata(), { deadline: Date.now() + 10000 },
        (error, bytes) => (found = { code: error?.code ?? 0, details: error?.details, text: bytes?.toString() }))
        .on('status', ({ metadata }) => done({ ...found, after: metadata.getMap()['x-after'] }));
    });
  },
  // Each piece is sent when the one before has come back.
  both({ port, pieces }) {
    const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
    const call = client.makeBidiStreamRequest(ECHO.both.path, same, same, new grpc.Metadata());
    return new Promise((done) => {
      const came = [];
      const next = () => (came.length < pieces ? call.write(Buffer.from(`piece ${came.length}`)) : call.end());
      call.on('data', (bytes) => { came.push(bytes.toString()); next(); });
      call.on('status', (status) => done({ code: status.code, came }));
      call.on('error', () => {});
      next();
    });
  },
});
