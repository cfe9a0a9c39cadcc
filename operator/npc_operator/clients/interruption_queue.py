"""The InterruptionQueue port over Amazon SQS.

boto3 blocks, and a long poll does so for 20 s, so each call has a thread of its own. Whoever is cancelled meanwhile,
because leadership is lost, leaves a poll behind that may still receive: what it gets is made visible again at once, so
that the next leader need not wait for it.

Credentials are the pod's own identity (IRSA, Pod Identity), or keys in the operator's own environment for clusters that
have neither; never the node's role. None are configured here, and none are in anything that is raised or logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from npc_operator.clients.aws_session import ENVIRONMENT, EXCHANGES, UNKNOWN_CALLER, pod_session
from npc_operator.clients.threads import in_thread
from npc_operator.domain import reasons
from npc_operator.ports import PortError, QueueMessage

BATCH = 10
"""The most messages of one call."""
WAIT_SECONDS = 20
"""The longest long poll."""
VISIBILITY_SECONDS = 20
"""How long a message that was handed out is nobody else's: several times what acting on it takes, and little of the two
minutes that a spot instance has, should its reader die."""
REFUSALS = 3
"""Receptions after which a message that nobody understands is deleted, where no dead letter queue takes it."""
MISSING = frozenset(("AWS.SimpleQueueService.NonExistentQueue", "InvalidAddress", "QueueDoesNotExist"))
FORBIDDEN = frozenset(("AccessDenied", "AccessDeniedException", "InvalidSecurity", "KMS.AccessDeniedException"))
"""Codes that only a person can help: of the queue's URL, and of rights."""

logger = logging.getLogger(__name__)

T = TypeVar("T")


class SqsQueue:
    """Implements ports.InterruptionQueue for one queue."""

    def __init__(
        self, url: str, region: str, *, endpoint: str | None = None, visibility_seconds: int = VISIBILITY_SECONDS
    ) -> None:
        """Blocks for some 100 ms: boto3 reads its descriptions. Without `endpoint` it is what AWS_ENDPOINT_URL_SQS says
        (a VPC endpoint without private DNS), or the region's own."""
        self._url = url
        self._visibility = visibility_seconds
        self._client: Any = pod_session(more=(ENVIRONMENT,)).client(
            "sqs",
            region_name=region,
            endpoint_url=endpoint,
            config=Config(
                connect_timeout=5,
                read_timeout=WAIT_SECONDS + 10,
                retries={"mode": "standard", "total_max_attempts": 2},
                max_pool_connections=4,
            ),
        )
        self._redrives: bool | None = None

    def close(self) -> None:
        """Gives idle connections back; a poll that still runs ends by itself."""
        self._client.close()

    async def receive(self, max_messages: int, wait_seconds: int) -> tuple[QueueMessage, ...]:
        def poll() -> tuple[QueueMessage, ...]:
            answer = self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=max(1, min(max_messages, BATCH)),
                WaitTimeSeconds=max(0, min(wait_seconds, WAIT_SECONDS)),
                VisibilityTimeout=self._visibility,
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
            )
            if "RequestId" not in answer.get("ResponseMetadata", {}):
                # A proxy's page: it would say at once, again and again, that the queue is read and empty.
                raise PortError("SQS ReceiveMessage: the answer is not SQS's", reason=reasons.QUEUE_UNREACHABLE)
            return tuple(_message(item) for item in answer.get("Messages", ()))

        return await _in_thread(poll, abandoned=self._give_back)

    async def delete(self, handles: tuple[str, ...]) -> tuple[str, ...]:
        failed: list[str] = []
        for start in range(0, len(handles), BATCH):
            part = handles[start : start + BATCH]
            entries = [{"Id": str(index), "ReceiptHandle": handle} for index, handle in enumerate(part)]

            def delete(entries: list[dict[str, str]] = entries) -> Any:
                return self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)

            answer = await _in_thread(delete)
            failed += [part[int(item["Id"])] for item in answer.get("Failed", ())]
        return tuple(failed)

    async def postpone(self, waits: Mapping[str, int]) -> None:
        handles = list(waits)
        for start in range(0, len(handles), BATCH):
            entries = [
                {"Id": str(index), "ReceiptHandle": handle, "VisibilityTimeout": waits[handle]}
                for index, handle in enumerate(handles[start : start + BATCH])
            ]

            def postpone(entries: list[dict[str, Any]] = entries) -> Any:
                return self._client.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)

            answer = await _in_thread(postpone)
            if failed := answer.get("Failed", ()):
                logger.warning("messages could not be put off and come again soon", extra={"messages": len(failed)})

    async def set_aside(self, message: QueueMessage, reason: str) -> str:
        fate = "Retry"
        if await self._has_dead_letters():
            fate = "Redrive"
        elif message.receptions >= REFUSALS:
            fate = "Retry" if await self.delete((message.handle,)) else "Deleted"
        logger.warning(
            "a message cannot be understood",
            extra={"message_id": message.id, "reason": reason, "fate": fate, "receptions": message.receptions},
        )
        return fate

    async def _has_dead_letters(self) -> bool:
        """Asked once. Who may not ask is told so, and then counts on none."""
        if self._redrives is None:

            def ask() -> Any:
                return self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=["RedrivePolicy"])

            try:
                answer = await _in_thread(ask)
                self._redrives = bool(answer.get("Attributes", {}).get("RedrivePolicy"))
            except PortError as error:
                if error.retryable:
                    raise
                logger.warning("the queue's dead letter queue cannot be seen", extra={"reason": error.reason})
                self._redrives = False
        return self._redrives

    def _give_back(self, messages: tuple[QueueMessage, ...]) -> None:
        """In the thread of a poll that nobody waits for any more."""
        if not messages:
            return
        entries = [
            {"Id": str(index), "ReceiptHandle": message.handle, "VisibilityTimeout": 0}
            for index, message in enumerate(messages)
        ]
        try:
            self._client.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)
        except (BotoCoreError, ClientError, OSError) as error:
            # They become visible by themselves after their timeout.
            logger.warning("messages cannot be given back", extra={"reason": _fault(error).reason})


def _message(item: dict[str, Any]) -> QueueMessage:
    attributes = item.get("Attributes", {})
    receptions, sent = (str(attributes.get(name, "")) for name in ("ApproximateReceiveCount", "SentTimestamp"))
    return QueueMessage(
        id=item.get("MessageId", ""),
        handle=item["ReceiptHandle"],
        body=item.get("Body", ""),
        receptions=int(receptions) if receptions.isdecimal() else 1,
        sent=int(sent) / 1000 if sent.isdecimal() else None,
    )


async def _in_thread(call: Callable[[], T], *, abandoned: Callable[[T], None] | None = None) -> T:
    """Raises PortError for what botocore raises."""

    def told() -> T:
        try:
            return call()
        except (BotoCoreError, ClientError, OSError) as error:
            raise _fault(error) from None

    return await in_thread(told, name="sqs", abandoned=abandoned)


def _fault(error: BotoCoreError | ClientError | OSError) -> PortError:
    """Without the answer's body and the request's headers: which call it was, a code, and a reason that a tier's status
    can say."""
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", "Unknown"))[:128]
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        reason = reasons.CLOUD_CREDENTIALS if error.operation_name in EXCHANGES else _reason_of(code)
        retryable = reason == reasons.QUEUE_UNREACHABLE
        return PortError(f"SQS {error.operation_name}: {code}", reason=reason, retryable=retryable, code=status)
    name = type(error).__name__
    # No identity at all, or one whose token could not be read (the network's errors are botocore's) or exchanged.
    known = "redential" not in name and not isinstance(error, OSError)
    reason = reasons.QUEUE_UNREACHABLE if known else reasons.CLOUD_CREDENTIALS
    return PortError(f"SQS: {name}", reason=reason, retryable=known)


def _reason_of(code: str) -> str:
    if code in MISSING:
        return reasons.QUEUE_MISSING
    if code in FORBIDDEN:
        return reasons.QUEUE_FORBIDDEN
    return reasons.CLOUD_CREDENTIALS if code in UNKNOWN_CALLER else reasons.QUEUE_UNREACHABLE
