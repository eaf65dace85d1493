// SPDX-License-Identifier: Apache-2.0
// A service as there are many: its answers have new ids and times, items in any order and floats that wobble. Two of
// its processes are two versions; WRONG is the share of answers in which a price is wrong.
'use strict';
const { createServer } = require('node:http');
const { randomUUID, randomBytes } = require('node:crypto');
const zlib = require('node:zlib');

const [port, wrong] = [Number(process.argv[2]), Number(process.argv[3] || 0)];

function shuffled(items) {
  for (let i = items.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [items[i], items[j]] = [items[j], items[i]];
  }
  return items;
}

function cart(id) {
  const items = [];
  for (let i = 0; i < 8; i++) items.push({ id: `sku-${i}`, price: 100 * i + (id % 50), quantity: 1 + (i % 3) });
  if (Math.random() < wrong) items[3].price += 1;
  return {
    request: randomUUID(),
    session: { token: randomBytes(24).toString('base64url'), issued: Date.now() },
    at: new Date().toISOString(),
    score: 0.5 + Math.random() * 1e-9,
    cached: Math.random() < 0.1,
    items: shuffled(items),
    owner: { name: 'Ann', email: 'ann@shop.test' },
  };
}

createServer((request, response) => {
  const id = Number(new URL(request.url, 'http://x').searchParams.get('id') || 1);
  const body = zlib.gzipSync(JSON.stringify(cart(id)));
  response.writeHead(200, {
    'Content-Type': 'application/json',
    'Content-Encoding': 'gzip',
    'Content-Length': body.length,
    'Set-Cookie': `sid=${randomUUID()}`,
  });
  response.end(body);
}).listen(port, '127.0.0.1');
