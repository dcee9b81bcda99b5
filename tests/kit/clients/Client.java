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
            case "reconnected" -> reconnected();
            case "channels" -> channels();
            case "connected-channels" -> connectedChannels();
            case "refused" -> {
                refused(() -> new Socket(service.getAddress(), service.getPort()));
                refused(() -> SocketChannel.open(service));
                refused(Client::connected);
            }
        }
    }

    static void say(Object... words) {
        for (Object word : words) System.out.print(word + " ");
        System.out.println();
    }

    static void streams() throws IOException {
        for (int i = 0; i < 2; i++) {
            try (var socket = new Socket(service.getAddress(), service.getPort())) {
                socket.getOutputStream().write('?');
                var answer = new byte[99];
                int length = socket.getInputStream().read(answer);
                say(new String(answer, 0, length), "peer", socket.getRemoteSocketAddress());
            }
            try (var channel = SocketChannel.open(service)) {
                channel.write(ByteBuffer.wrap("?".getBytes()));
                var answer = ByteBuffer.allocate(99);
                channel.read(answer);
                say(text(answer), "peer", channel.getRemoteAddress());
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

    static String text(ByteBuffer buffer) {
        return new String(buffer.array(), 0, buffer.position());
    }

    static void ask(DatagramSocket socket) throws IOException {
        var question = new DatagramPacket(new byte[1], 1);
        if (!socket.isConnected()) question.setSocketAddress(service);
        socket.send(question);
        socket.setSoTimeout(5000);
        var packet = new DatagramPacket(new byte[99], 99);
        socket.receive(packet);
        var answer = new String(packet.getData(), 0, packet.getLength());
        say(answer, "from", packet.getSocketAddress(), "peer", socket.getRemoteSocketAddress());
    }

    static void unconnected() throws IOException {
        for (int i = 0; i < 3; i++) {
            try (var socket = new DatagramSocket()) {
                ask(socket);
                ask(socket);
            }
        }
    }

    static void connected() throws IOException {
        for (int i = 0; i < 3; i++) {
            try (var socket = new DatagramSocket()) {
                socket.connect(service);
                ask(socket);
                ask(socket);
            }
        }
    }

    interface Attempt {
        void make() throws IOException;
    }

    static void refused(Attempt attempt) {
        try {
            attempt.make();
        } catch (IOException error) {
            say(error);
        }
    }

    /** One socket that is connected again and again, with the same port of its own. */
    static void reconnected() throws IOException {
        try (var socket = new DatagramSocket()) {
            for (int i = 0; i < 3; i++) {
                socket.connect(service);
                ask(socket);
                socket.disconnect();
            }
            ask(socket);
        }
    }

    static final ProtocolFamily[] FAMILIES = {StandardProtocolFamily.INET, StandardProtocolFamily.INET6};

    static void channels() throws IOException {
        for (var family : FAMILIES) {
            try (var channel = DatagramChannel.open(family)) {
                channel.send(ByteBuffer.wrap(new byte[1]), service);
                var answer = ByteBuffer.allocate(99);
                var source = channel.receive(answer);
                say(family, text(answer), "from", source);
            }
        }
    }

    static void connectedChannels() throws IOException {
        for (var family : FAMILIES) {
            try (var channel = DatagramChannel.open(family)) {
                channel.connect(service);
                channel.write(ByteBuffer.wrap(new byte[1]));
                var answer = ByteBuffer.allocate(99);
                channel.read(answer);
                channel.write(ByteBuffer.wrap(new byte[1]));
                var source = channel.receive(answer);
                say(family, text(answer), "from", source, "peer", channel.getRemoteAddress());
            }
        }
    }
}
