-- title: Domains whose messages fail DMARC most
-- chart: bar
-- param most: integer = 10

SELECT sender_domain AS domain, sum(message_count) AS messages
FROM telemetry
WHERE dmarc = 'fail'
GROUP BY domain
ORDER BY messages DESC, domain
LIMIT $1
