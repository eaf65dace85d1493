// SPDX-License-Identifier: Apache-2.0
// llhttp, as Node.js has it, for heads.py: the same in and out as heads.c. How a body is framed is not told by Node's binding; it
// shows in what becomes of the bytes behind the head, which begin with a last chunk. Their number is the argument.
'use strict';
const { HTTPParser, methods } = process.binding('http_parser');

let message; // of the input under way: the first head, and what came behind it

function onHeadersComplete(major, minor, headers, method, url, code, status, upgrade, keepAlive) {
  message.heads += 1;
  if (message.heads > 1) return 2;
  const fields = headers || message.early;
  message.head = [methods[method], url || message.url, String(minor), keepAlive ? 'stays' : 'closes', upgrade ? 'upgrade' : '', fields];
  message.major = major;
  return 0;
}

function newParser() {
  const parser = new HTTPParser();
  parser[HTTPParser.kOnHeaders | 0] = (headers, url) => { message.early = message.early.concat(headers); message.url += url; };
  parser[HTTPParser.kOnHeadersComplete | 0] = onHeadersComplete;
  parser[HTTPParser.kOnBody | 0] = (bytes) => { if (message.heads === 1) message.body += bytes.length; };
  parser[HTTPParser.kOnMessageComplete | 0] = () => { message.ends += 1; };
  return parser;
}

// How many of the bytes behind the head were read before llhttp would read no more.
function behind(bytes, result) {
  return result instanceof Error ? result.bytesParsed - (bytes.length - Number(process.argv[2])) : 0;
}

function judge(bytes) {
  message = { heads: 0, ends: 0, body: 0, early: [], url: '', head: null };
  parser.initialize(HTTPParser.REQUEST, {}, 65536, 0);
  const result = parser.execute(bytes);
  if (message.head === null) return result instanceof Error ? `refused ${result.code}` : 'more';
  const [method, url, minor, keep, upgrade, fields] = message.head;
  let framing = 'none';
  if (message.body > 0 || message.ends === 0) framing = `length ${message.body > 0 && message.ends > 0 ? message.body : 'beyond'}`;
  else if (message.heads > 1 || behind(bytes, result) >= '0\r\n\r\n'.length) framing = 'chunked';
  if (message.major !== 1) return `refused version ${message.major}`;
  return ['taken', method, url, minor, framing, keep, upgrade, ...fields].join('\x1f');
}

const parser = newParser();
let held = Buffer.alloc(0);
process.stdin.on('data', (data) => {
  held = Buffer.concat([held, data]);
  const lines = [];
  let at = 0;
  while (held.length - at >= 4 && held.length - at - 4 >= held.readUInt32LE(at)) {
    const length = held.readUInt32LE(at);
    lines.push(judge(held.subarray(at + 4, at + 4 + length)).replace(/\n/g, '\x1e'));
    at += 4 + length;
  }
  held = held.subarray(at);
  process.stdout.write(Buffer.from(lines.map((line) => line + '\n').join(''), 'latin1'));
});
