/* Prints the addresses of a name as the C library resolves it: lookup NAME [SERVICE] */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	struct addrinfo wanted = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM }, *found;
	int error = getaddrinfo(argv[1], argc > 2 ? argv[2] : NULL, &wanted, &found);

	if (error)
		return printf("%s\n", gai_strerror(error)), 1;
	for (; found; found = found->ai_next) {
		struct sockaddr_in *address = (struct sockaddr_in *)found->ai_addr;
		printf("%s\n", inet_ntoa(address->sin_addr));
	}
	return 0;
}
