/*
 * floor: the same kernel work as an ADD or a DEL of slash32 (IPv4), by nothing but netlink.
 *
 * What no CNI plugin can go below: one process, two sockets, no JSON, no IPAM, no records, no
 * error texts. `make bench` runs it beside the plugins (docs/benchmarks.md).
 *
 *   floor add NETNS HOST_LINK POD_LINK ADDRESS      floor del HOST_LINK
 *
 * And a launcher that is small enough to measure others with: `floor peak FILE COMMAND...` runs a command and
 * writes its peak RSS (KiB) to a file. A process inherits the peak of the one that forks it, so a large parent hides it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static char buffer[8192];
static size_t used;
static unsigned sequence;

static void die(const char *what, int error) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(error));
    exit(1);
}

static void *reserve(size_t size) {
    void *at = buffer + used;
    used += NLMSG_ALIGN(size);
    return at;
}

static struct nlmsghdr *begin(int type, int flags, const void *body, size_t size) {
    struct nlmsghdr *header = reserve(sizeof *header);
    *header = (struct nlmsghdr){.nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags, .nlmsg_seq = ++sequence};
    memcpy(reserve(size), body, size);
    return header;
}

static void end(struct nlmsghdr *header) { header->nlmsg_len = buffer + used - (char *)header; }

static void put(int type, const void *data, size_t size) {
    struct rtattr *attribute = reserve(RTA_LENGTH(0));
    *attribute = (struct rtattr){.rta_type = type, .rta_len = RTA_LENGTH(size)};
    memcpy(reserve(size), data, size);
}

static struct rtattr *nest(int type) {
    struct rtattr *attribute = reserve(RTA_LENGTH(0));
    attribute->rta_type = type;
    return attribute;
}

static void close_nest(struct rtattr *attribute) { attribute->rta_len = buffer + used - (char *)attribute; }

/* Sends what is in the buffer and reads its `acks` answers; returns the ifindex that an echo told. */
static int talk(int fd, int acks, int *peer) {
    static char answer[16384];
    int index = 0;
    if (send(fd, buffer, used, 0) < 0) die("send", errno);
    memset(buffer, 0, used);
    used = 0;
    while (acks > 0) {
        ssize_t left = recv(fd, answer, sizeof answer, 0);
        if (left < 0) die("recv", errno);
        for (struct nlmsghdr *h = (void *)answer; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            if (h->nlmsg_type == NLMSG_ERROR) {
                struct nlmsgerr *error = NLMSG_DATA(h);
                if (error->error) die("kernel", -error->error);
                acks--;
            } else if (h->nlmsg_type == RTM_NEWLINK) {
                struct ifinfomsg *link = NLMSG_DATA(h);
                int size = IFLA_PAYLOAD(h);
                index = link->ifi_index;
                for (struct rtattr *a = IFLA_RTA(link); RTA_OK(a, size); a = RTA_NEXT(a, size))
                    if (a->rta_type == IFLA_LINK && peer) *peer = *(int *)RTA_DATA(a);
            }
        }
    }
    return index;
}

static int open_socket(void) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0) die("socket", errno);
    return fd;
}

static int make_link(int fd, int netns, const char *host, const char *pod, int *peer) {
    static const unsigned char host_mac[6] = {0xee, 0xee, 0xee, 0xee, 0xee, 0xee}, pod_mac[6] = {2, 0, 0, 0, 0, 1};
    struct ifinfomsg link = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP}, other = {0};
    unsigned mtu = 1500;
    struct nlmsghdr *h = begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO, &link, sizeof link);
    put(IFLA_IFNAME, host, strlen(host) + 1);
    put(IFLA_MTU, &mtu, sizeof mtu);
    put(IFLA_ADDRESS, host_mac, sizeof host_mac);
    struct rtattr *info = nest(IFLA_LINKINFO);
    put(IFLA_INFO_KIND, "veth", 4);
    struct rtattr *data = nest(IFLA_INFO_DATA), *peer_nest = nest(VETH_INFO_PEER);
    memcpy(reserve(sizeof other), &other, sizeof other);
    put(IFLA_IFNAME, pod, strlen(pod) + 1);
    put(IFLA_MTU, &mtu, sizeof mtu);
    put(IFLA_ADDRESS, pod_mac, sizeof pod_mac);
    put(IFLA_NET_NS_FD, &netns, sizeof netns);
    close_nest(peer_nest);
    close_nest(data);
    close_nest(info);
    end(h);
    return talk(fd, 1, peer);
}

static void route(struct in_addr destination, int bits, const struct in_addr *gateway, int index, int scope) {
    struct rtmsg body = {.rtm_family = AF_INET, .rtm_dst_len = bits, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = 32, .rtm_scope = scope, .rtm_type = RTN_UNICAST};
    struct nlmsghdr *h = begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &body, sizeof body);
    if (bits) put(RTA_DST, &destination, 4);
    if (gateway) put(RTA_GATEWAY, gateway, 4);
    put(RTA_OIF, &index, sizeof index);
    end(h);
}

static void neighbour(struct in_addr address, int index, const unsigned char *mac) {
    struct ndmsg body = {.ndm_family = AF_INET, .ndm_ifindex = index, .ndm_state = NUD_PERMANENT};
    struct nlmsghdr *h = begin(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &body, sizeof body);
    put(NDA_DST, &address, 4);
    put(NDA_LLADDR, mac, 6);
    end(h);
}

static void add(char **argv) {
    static const unsigned char host_mac[6] = {0xee, 0xee, 0xee, 0xee, 0xee, 0xee}, pod_mac[6] = {2, 0, 0, 0, 0, 1};
    struct in_addr address, gateway;
    int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), netns = open(argv[2], O_RDONLY | O_CLOEXEC);
    if (netns < 0) die(argv[2], errno);
    inet_pton(AF_INET, argv[5], &address);
    inet_pton(AF_INET, "169.254.1.1", &gateway);
    int host_fd = open_socket(), peer = 0;
    int index = make_link(host_fd, netns, argv[3], argv[4], &peer);
    if (setns(netns, CLONE_NEWNET)) die("setns", errno);
    int pod_fd = open_socket();
    if (setns(home, CLONE_NEWNET)) die("setns", errno);

    struct ifinfomsg up = {.ifi_index = peer, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    end(begin(RTM_NEWLINK, 0, &up, sizeof up));
    struct ifaddrmsg body = {.ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_index = peer};
    struct nlmsghdr *h = begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &body, sizeof body);
    put(IFA_LOCAL, &address, 4);
    put(IFA_ADDRESS, &address, 4);
    end(h);
    neighbour(gateway, peer, host_mac);
    route(gateway, 32, NULL, peer, RT_SCOPE_LINK);
    route((struct in_addr){0}, 0, &gateway, peer, RT_SCOPE_UNIVERSE);
    talk(pod_fd, 5, NULL);

    route(address, 32, NULL, index, RT_SCOPE_LINK);
    neighbour(address, index, pod_mac);
    talk(host_fd, 2, NULL);
}

static void del(const char *name) {
    struct ifinfomsg body = {0};
    struct nlmsghdr *h = begin(RTM_DELLINK, 0, &body, sizeof body);
    put(IFLA_IFNAME, name, strlen(name) + 1);
    end(h);
    talk(open_socket(), 1, NULL);
}

static int peak(char **argv) {
    int status;
    struct rusage usage;
    pid_t child = fork();
    if (child < 0) die("fork", errno);
    if (child == 0) {
        execvp(argv[3], argv + 3);
        die(argv[3], errno);
    }
    if (wait4(child, &status, 0, &usage) < 0) die("wait4", errno);
    FILE *out = fopen(argv[2], "w");
    if (!out || fprintf(out, "%ld", usage.ru_maxrss) < 0 || fclose(out)) die(argv[2], errno);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv) {
    if (argc == 6 && !strcmp(argv[1], "add")) add(argv);
    else if (argc == 3 && !strcmp(argv[1], "del")) del(argv[2]);
    else if (argc >= 4 && !strcmp(argv[1], "peak")) return peak(argv);
    else return fputs("usage: floor add NETNS HOST_LINK POD_LINK ADDRESS | floor del HOST_LINK | floor peak FILE COMMAND...\n", stderr), 2;
    return 0;
}
