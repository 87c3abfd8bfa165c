"""One request for an answer, from its sample to a whole or streamed reply."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from starlette.responses import JSONResponse, Response, StreamingResponse

from epalm.model.generation.token_watch import TokenStep
from epalm.serve.chat.answer_text import AnswerText, Piece
from epalm.serve.chat.chat_reply import Outcome, Reply
from epalm.serve.chat.chat_request import ChatRequest
from epalm.serve.engine.service import Service
from epalm.serve.requests.api_errors import as_api_error, server_error

logger = logging.getLogger(__name__)

Item: TypeAlias = Piece | Outcome | Exception
"""What a stream is made of: pieces, then an outcome or an exception."""


@dataclass
class ChatExchange:
    """A request for an answer.

    Attributes:
        service: answers the request.
        chat: the request.
        content: function that gets the bytes of the sample.
    """

    service: Service
    chat: ChatRequest
    content: Callable[[], Awaitable[bytes]]
    _items: "asyncio.Queue[Item]" = field(default_factory=asyncio.Queue)

    async def respond(self) -> Response:
        """The reply; a stream starts with its first token, so that errors have their own status."""
        reply = Reply(self.service.model.record.name, self.chat)
        if not self.chat.stream:
            pieces: list[Piece] = []
            outcome = await self._outcome(pieces.append)
            return JSONResponse(reply.whole(outcome, pieces))
        self.service.keep()
        task = asyncio.create_task(self._produce())
        task.add_done_callback(lambda _: self.service.leave())
        try:
            first = await self._items.get()
        except asyncio.CancelledError:
            task.cancel()
            raise
        if isinstance(first, Exception):
            raise first
        return StreamingResponse(
            self._events(reply, first, task), media_type="text/event-stream; charset=utf-8"
        )

    async def _outcome(self, receive: Callable[[Piece], object]) -> Outcome:
        """The answer.

        Args:
            receive: called in the event loop with each piece of the answer.
        """
        loop = asyncio.get_running_loop()
        text = AnswerText(self.service.model.loaded.text)

        def on_step(step: TokenStep) -> None:
            loop.call_soon_threadsafe(receive, text.add(step))

        async with asyncio.timeout(self.service.limits.request_seconds):
            needs_pieces = self.chat.stream or self.chat.logprobs
            key, result = await self.service.answer(
                await self.content(), self.chat.question, on_step if needs_pieces else None
            )
            count = self.chat.neighbors
            neighbors = await self.service.neighbors(result.features, count) if count else []
        return Outcome(key, result, neighbors)

    async def _produce(self) -> None:
        try:
            item: Item = await self._outcome(self._items.put_nowait)
        except Exception as error:  # noqa: BLE001 - reported by the reader of the queue
            item = error
        self._items.put_nowait(item)

    async def _events(
        self, reply: Reply, first: Item, task: "asyncio.Task[None]"
    ) -> AsyncIterator[str]:
        sent, item = "", first
        try:
            yield reply.first()
            while isinstance(item, Piece):
                sent += item.text
                if event := reply.piece(item):
                    yield event
                item = await self._items.get()
            for event in _last_events(reply, item, sent):
                yield event
        finally:
            task.cancel()


def _last_events(reply: Reply, item: Outcome | Exception, sent: str) -> Iterator[str]:
    if isinstance(item, Outcome):
        text = str(item.result.answer)
        if not text.startswith(sent):
            logger.warning("the text of a stream is not that of the answer: %r, %r", sent, text)
        yield from reply.last(item, text[len(sent) :] if text.startswith(sent) else "")
        return
    error = as_api_error(item)
    if error is None:
        logger.error("a stream failed", exc_info=item)
        error = server_error(item)
    yield f"data: {json.dumps(error.body())}\n\n"
