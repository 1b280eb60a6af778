"""The forms of the web site. A page posts them to /forms/<id>; `mebae forms whitepaper-request` prints the HTML."""

from mebae.forms_language import *

MAIL = Consent(field="agree", wording="製品・セミナーに関するご案内メールの受け取りに同意します。")

whitepaper = Form(
    "whitepaper-request",
    title="ホワイトペーパー請求",
    fields=["会社名", "部署名", "役職", "氏名", "メールアドレス", "導入時期"],
    required=["会社名", "氏名", "メールアドレス"],
    means={"部署名": "lead.department", "導入時期": "lead.timeframe"},
    downloads="whitepaper-automation",
    consent=MAIL,
    honeypot="website",
    language="ja",
)

library = Form(
    "library-registration",
    title="資料ライブラリ登録",
    fields=["会社名", "役職", "氏名", "メールアドレス"],
    required=["会社名", "氏名", "メールアドレス"],
    consent=MAIL,
    honeypot="website",
    language="ja",
)

contact = Form(
    "contact",
    title="お問い合わせ",
    fields=["会社名", "氏名", "メールアドレス", "お問い合わせ内容"],
    required=["氏名", "メールアドレス", "お問い合わせ内容"],
    means={"お問い合わせ内容": "message"},
    consent=MAIL,
    honeypot="website",
    language="ja",
)
