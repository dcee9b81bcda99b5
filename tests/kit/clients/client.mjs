// What a Node program sees of a service: client.mjs WHAT HOST PORT

import dgram from "node:dgram";
import { once } from "node:events";
import http from "node:http";
import net from "node:net";

const [what, host, port] = process.argv.slice(2);
const at = ({ address, port, family }) => `${address}:${port} ${family}`;

async function streams() {
  for (let i = 0; i < 4; i++) {
    const stream = net.connect(Number(port), host);
    stream.write("?");
    const [data] = await once(stream, "data");
    console.log(String(data), "peer", stream.remoteAddress, stream.remotePort, stream.remoteFamily);
    stream.destroy();
    await once(stream, "close");
  }
}

async function datagrams(type, connected) {
  const to = type === "udp6" ? `::ffff:${host}` : host;
  for (let i = 0; i < 3; i++) {
    const socket = dgram.createSocket(type);
    if (connected) {
      socket.connect(Number(port), to);
      await once(socket, "connect");
      console.log("peer", at(socket.remoteAddress()));
    }
    for (let i = 0; i < 2; i++) {
      connected ? socket.send("?") : socket.send("?", Number(port), to);
      const [data, source] = await once(socket, "message");
      console.log(String(data), "from", at(source));
    }
    socket.close();
  }
}

// One agent that keeps its connection, as most programs have.
async function keepAlive() {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  for (let i = 0; i < 4; i++) {
    if (i === 2) agent.destroy();
    const [response] = await once(http.get({ host, port, agent, path: "/who" }), "response");
    const peer = response.socket.remoteAddress;
    console.log((await response.toArray()).join("").trim(), response.statusCode, "peer", peer);
  }
  agent.destroy();
}

async function refused() {
  const stream = net.connect(Number(port), host);
  await once(stream, "connect").catch((error) => console.log(error.message));
  const socket = dgram.createSocket("udp4");
  socket.connect(Number(port), host);
  await once(socket, "connect");
  socket.send("?");
  await once(socket, "message").catch((error) => console.log(error.message));
  socket.close();
}

switch (what) {
  case "streams": await streams(); break;
  case "http": await keepAlive(); break;
  case "refused": await refused(); break;
  case "unconnected": await datagrams("udp4", false); break;
  case "unconnected6": await datagrams("udp6", false); break;
  case "connected": await datagrams("udp4", true); break;
  case "connected6": await datagrams("udp6", true); break;
}
