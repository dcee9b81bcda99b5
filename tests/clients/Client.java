import java.io.*;
import java.net.*;
import java.nio.ByteBuffer;
import java.nio.channels.*;

/** What a Java program sees of a service: java Client.java WHAT HOST PORT. Its sockets are IPv6. */
class Client {
    static InetSocketAddress service;

    public static void main(String[] args) throws Exception {
        service = new InetSocketAddress(args[1], Integer.parseInt(args[2]));
        switch (args[0]) {
            case "streams" -> streams();
            case "http" -> http();
            case "unconnected" -> unconnected();
            case "connected" -> connected();
            case "channels" -> channels();
        }
    }

    static void say(Object... words) {
        for (Object word : words) System.out.print(word + " ");
        System.out.println();
    }

    static void streams() throws IOException {
        for (int i = 0; i < 2; i++) {
            try (var socket = new Socket(service.getAddress(), service.getPort())) {
                var in = new BufferedReader(new InputStreamReader(socket.getInputStream()));
                say(in.readLine(), "peer", socket.getRemoteSocketAddress(), socket.getPort());
            }
            try (var channel = SocketChannel.open(service)) {
                var in = new BufferedReader(new InputStreamReader(Channels.newInputStream(channel)));
                say(in.readLine(), "peer", channel.getRemoteAddress());
            }
        }
    }

    static void http() throws IOException {
        for (int i = 0; i < 3; i++) {
            var url = new URL("http", service.getHostString(), service.getPort(), "/who");
            var connection = (HttpURLConnection) url.openConnection();
            try (var in = connection.getInputStream()) {
                say(new String(in.readAllBytes()).trim(), connection.getResponseCode());
            }
            if (i == 1) connection.disconnect();
        }
    }

    static String receive(DatagramSocket socket) throws IOException {
        var packet = new DatagramPacket(new byte[99], 99);
        socket.receive(packet);
        return new String(packet.getData(), 0, packet.getLength()) + " from " + packet.getSocketAddress();
    }

    static void unconnected() throws IOException {
        for (int i = 0; i < 3; i++) {
            try (var socket = new DatagramSocket()) {
                socket.setSoTimeout(5000);
                for (int j = 0; j < 2; j++) {
                    socket.send(new DatagramPacket(new byte[1], 1, service));
                    say(receive(socket));
                }
            }
        }
    }

    static void connected() throws IOException {
        try (var socket = new DatagramSocket()) {
            socket.setSoTimeout(5000);
            for (int i = 0; i < 3; i++) {
                socket.connect(service);
                socket.send(new DatagramPacket(new byte[1], 1));
                say(receive(socket), "peer", socket.getRemoteSocketAddress());
                socket.disconnect();
                say("disconnected", socket.getRemoteSocketAddress());
            }
            // Not connected any more.
            socket.send(new DatagramPacket(new byte[1], 1, service));
            say(receive(socket));
        }
    }

    static void channels() throws IOException {
        for (var family : StandardProtocolFamily.values()) {
            if (family == StandardProtocolFamily.UNIX) continue;
            var buffer = ByteBuffer.allocate(99);
            try (var channel = DatagramChannel.open(family)) {
                channel.send(ByteBuffer.wrap(new byte[1]), service);
                var source = channel.receive(buffer);
                say(family, new String(buffer.array(), 0, buffer.position()), "from", source);
            }
            try (var channel = DatagramChannel.open(family)) {
                channel.connect(service);
                for (int i = 0; i < 2; i++) {
                    channel.write(ByteBuffer.wrap(new byte[1]));
                    buffer.clear();
                    // Twice the same: read, and receive with the source.
                    var source = i == 0 ? channel.receive(buffer) : channel.read(buffer);
                    say(family, new String(buffer.array(), 0, buffer.position()), source, channel.getRemoteAddress());
                }
            }
        }
    }
}
