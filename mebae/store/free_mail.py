"""Domains whose addresses say nothing about the firm: free mail, mobile carriers, internet providers, and the examples' own."""

from __future__ import annotations

import re

_LISTED = (
    # Free mail of the world
    "gmail.com googlemail.com outlook.com outlook.jp outlook.co.uk outlook.de outlook.fr hotmail.com hotmail.co.jp hotmail.co.uk "
    "hotmail.de hotmail.fr live.com live.jp live.co.uk msn.com icloud.com me.com mac.com yahoo.com ymail.com rocketmail.com "
    "yahoo.co.uk yahoo.de yahoo.fr yahoo.it yahoo.es yahoo.in yahoo.co.in yahoo.com.sg yahoo.com.au yahoo.com.hk yahoo.com.tw "
    "yahoo.com.br yahoo.ca aol.com proton.me protonmail.com pm.me tutanota.com tuta.com fastmail.com fastmail.fm hey.com duck.com "
    "gmx.com gmx.net gmx.de gmx.at web.de t-online.de freenet.de mail.com zoho.com zohomail.com mail.ru bk.ru yandex.ru yandex.com "
    "rambler.ru qq.com foxmail.com 163.com 126.com sina.com sina.cn sohu.com aliyun.com naver.com daum.net hanmail.net kakao.com "
    "nate.com rediffmail.com orange.fr wanadoo.fr free.fr laposte.net libero.it virgilio.it btinternet.com comcast.net verizon.net "
    "att.net sbcglobal.net bellsouth.net cox.net charter.net earthlink.net shaw.ca rogers.com bigpond.com optusnet.com.au "
    "privaterelay.appleid.com mozmail.com "
    # Free mail of Japan
    "yahoo.co.jp ybb.ne.jp yahoo.ne.jp goo.jp goo.ne.jp mail.goo.ne.jp excite.co.jp infoseek.jp livedoor.com aol.jp inter7.jp "
    "rakuten.jp kpost.jp outlook.co.jp nifmail.jp "
    # Mobile carriers of Japan
    "docomo.ne.jp ezweb.ne.jp au.com auone.jp softbank.ne.jp i.softbank.jp softbank.jp ymobile.ne.jp ymobile1.ne.jp y-mobile.ne.jp "
    "disney.ne.jp disneymobile.ne.jp uqmobile.jp emobile.ne.jp emnet.ne.jp willcom.com wcm.ne.jp pdx.ne.jp rakuten-mail.jp "
    "rakumail.jp linemo.jp "
    # Internet providers of Japan
    "nifty.com nifty.ne.jp biglobe.ne.jp biglobe.jp plala.or.jp so-net.ne.jp so-net.jp asahi-net.or.jp asahinet.jp dion.ne.jp "
    "auone-net.jp hi-ho.ne.jp jcom.home.ne.jp jcom.zaq.ne.jp odn.ne.jp dti.ne.jp wakwak.com iij4u.or.jp eonet.ne.jp infoweb.ne.jp "
    "tcat.ne.jp commufa.jp ctc-net.jp ccnet.ai bbiq.jp pikara.ne.jp enjoy.ne.jp ttn.ne.jp kcn.jp kcn.ne.jp highway.ne.jp justnet.ne.jp "
    "ybb.jp interlink.or.jp sannet.ne.jp rakuten.ne.jp "
    # Nobody's: what examples and test entries use
    "example.com example.net example.org example.jp"
)
FREE_MAIL = frozenset(_LISTED.split())

_BELOW = re.compile(
    r".+\.(ocn\.ne\.jp|biglobe\.ne\.jp|plala\.or\.jp|so-net\.ne\.jp|nifty\.com|dion\.ne\.jp|odn\.ne\.jp|dti\.ne\.jp|zaq\.ne\.jp"
    r"|home\.ne\.jp|eonet\.ne\.jp|asahi-net\.or\.jp|wakwak\.ne\.jp|wakwak\.com|hi-ho\.ne\.jp|vodafone\.ne\.jp|pdx\.ne\.jp|ezweb\.ne\.jp"
    r"|t-com\.ne\.jp|tnc\.ne\.jp|mopera\.net|mopera\.ne\.jp|au-hikari\.ne\.jp|auone-net\.jp|catv\.ne\.jp|gmobb\.jp|ybb\.ne\.jp)"
)
"""Providers that give each customer or region a name of its own, such as `blue.ocn.ne.jp`."""


def is_free(domain: str) -> bool:
    """Whether anybody may have an address there.

    >>> is_free("gmail.com"), is_free("blue.ocn.ne.jp"), is_free("aoba-seiki.co.jp")
    (True, True, False)
    """
    return domain in FREE_MAIL or _BELOW.fullmatch(f".{domain}" if domain.count(".") < 3 else domain) is not None
